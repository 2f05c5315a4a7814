-- Views. They show what the current revision of each experiment runs; `experiment` is its name.

-- A trial's last value of each metric in each phase.
CREATE VIEW final_evaluation AS
SELECT trial, phase, metric, max(step) AS step, value, hits, total
FROM evaluation GROUP BY trial, phase, metric;

CREATE VIEW trial_summary AS
SELECT t.id AS trial, e.name AS experiment, t.configuration, c.label, t.repeat, t.fold, t.status,
  (SELECT count(*) FROM attempt a WHERE a.trial = t.id) AS attempts,
  (SELECT sum(a.wall_s) FROM attempt a WHERE a.trial = t.id) AS wall_s,
  t.fit,
  (SELECT f.status FROM fit f WHERE f.id = t.fit) AS fit_status,
  (SELECT sum(a.wall_s) FROM attempt a WHERE a.fit = t.fit) AS fit_wall_s,
  (SELECT max(s.step) FROM ttt_step s WHERE s.trial = t.id) AS steps,
  (SELECT s.total FROM ttt_step s WHERE s.trial = t.id ORDER BY s.step LIMIT 1) AS first_total,
  (SELECT s.total FROM ttt_step s WHERE s.trial = t.id ORDER BY s.step DESC LIMIT 1) AS last_total,
  (SELECT v.value FROM evaluation v WHERE v.trial = t.id AND v.phase = 'before' AND v.metric = 'accuracy'
   ORDER BY v.step DESC LIMIT 1) AS accuracy_before,
  (SELECT v.value FROM evaluation v WHERE v.trial = t.id AND v.phase = 'after' AND v.metric = 'accuracy'
   ORDER BY v.step DESC LIMIT 1) AS accuracy_after,
  t.seed, t.reason
FROM trial t
JOIN experiment e ON e.id = t.experiment AND e.revision = t.revision
JOIN configuration c ON c.id = t.configuration;

CREATE VIEW trial_train_step AS
SELECT t.id AS trial, e.name AS experiment, t.configuration, c.label, t.repeat, t.fold,
  s.step, s.epoch, s.loss, s.lr, s.grad_norm, s.wall_s
FROM trial t
JOIN experiment e ON e.id = t.experiment AND e.revision = t.revision
JOIN configuration c ON c.id = t.configuration
JOIN train_step s ON s.fit = t.fit;

-- What was recorded inside the model: while its fit was trained (shared with the fit's other trials), and by the
-- trial itself.
CREATE VIEW inner_loss AS
SELECT trial, phase, step, layer, position, l0, lprev, lafter FROM trial_inner_loss
UNION ALL
SELECT t.id, r.phase, r.step, r.layer, r.position, r.l0, r.lprev, r.lafter
FROM trial t JOIN fit_inner_loss r ON r.fit = t.fit;

CREATE VIEW gate AS
SELECT trial, 'adaptation' AS stage, step, layer, mean_tanh, min_tanh, max_tanh FROM trial_gate
UNION ALL
SELECT t.id, 'training', r.step, r.layer, r.mean_tanh, r.min_tanh, r.max_tanh
FROM trial t JOIN fit_gate r ON r.fit = t.fit;

CREATE VIEW position_loss AS
SELECT trial, phase, step, position, codebook, loss, weight FROM trial_position_loss
UNION ALL
SELECT t.id, r.phase, r.step, r.position, r.codebook, r.loss, r.weight
FROM trial t JOIN fit_position_loss r ON r.fit = t.fit;

-- A metric before and after adaptation, on each fold.
CREATE VIEW fold_summary AS
SELECT e.name AS experiment, t.configuration, c.label, t.repeat, t.fold, t.id AS trial, a.metric,
  b.value AS before, a.value AS after, a.value - b.value AS change
FROM trial t
JOIN experiment e ON e.id = t.experiment AND e.revision = t.revision
JOIN configuration c ON c.id = t.configuration
JOIN final_evaluation a ON a.trial = t.id AND a.phase = 'after'
LEFT JOIN final_evaluation b ON b.trial = t.id AND b.phase = 'before' AND b.metric = a.metric
WHERE t.status = 'done';

CREATE VIEW ttt_step_mean AS
SELECT e.name AS experiment, t.configuration, c.label, s.step, count(*) AS folds,
  avg(s.total) AS total, avg(s.entropy) AS entropy, avg(s.diversity) AS diversity
FROM trial t
JOIN experiment e ON e.id = t.experiment AND e.revision = t.revision
JOIN configuration c ON c.id = t.configuration
JOIN ttt_step s ON s.trial = t.id
WHERE t.status = 'done'
GROUP BY e.id, t.configuration, s.step;

-- Mean and sample standard deviation over folds (and repeats) of done trials; place 1 is the best.
CREATE VIEW leaderboard AS
WITH final AS MATERIALIZED (
  SELECT t.experiment, t.configuration, v.metric, v.phase, v.value
  FROM trial t
  JOIN experiment e ON e.id = t.experiment AND e.revision = t.revision
  JOIN final_evaluation v ON v.trial = t.id
  WHERE t.status = 'done' AND v.value IS NOT NULL),
averaged AS MATERIALIZED (
  SELECT experiment, configuration, metric, phase, avg(value) AS mean, count(*) AS folds
  FROM final GROUP BY experiment, configuration, metric, phase),
spread AS (
  SELECT m.experiment, m.configuration, m.metric, m.phase, m.mean, m.folds,
    sum((f.value - m.mean) * (f.value - m.mean)) AS squares
  FROM averaged m
  JOIN final f USING (experiment, configuration, metric, phase)
  GROUP BY m.experiment, m.configuration, m.metric, m.phase)
SELECT e.name AS experiment, s.configuration, c.label, s.metric, s.phase, s.mean,
  CASE WHEN s.folds > 1 THEN sqrt(s.squares / (s.folds - 1)) END AS sd, s.folds,
  rank() OVER (PARTITION BY s.experiment, s.metric, s.phase
               ORDER BY CASE WHEN m.higher_is_better THEN -s.mean ELSE s.mean END) AS place
FROM spread s
JOIN experiment e ON e.id = s.experiment
JOIN configuration c ON c.id = s.configuration
JOIN metric m ON m.name = s.metric;

-- What adaptation changed, paired by fold: against the trial of method `source` on the same fit where the
-- experiment has one, or else against the same trial before adaptation.
CREATE VIEW delta_vs_baseline AS
WITH paired AS (
  SELECT t.experiment, t.configuration, a.metric, a.value,
    coalesce(
      (SELECT v.value FROM trial o
       JOIN configuration oc ON oc.id = o.configuration AND oc.method = 'source'
       JOIN final_evaluation v ON v.trial = o.id AND v.phase = 'after' AND v.metric = a.metric
       WHERE o.fit = t.fit AND o.experiment = t.experiment AND o.status = 'done' AND o.revision = t.revision LIMIT 1),
      (SELECT v.value FROM final_evaluation v
       WHERE v.trial = t.id AND v.phase = 'before' AND v.metric = a.metric)) AS baseline
  FROM trial t
  JOIN experiment e ON e.id = t.experiment AND e.revision = t.revision
  JOIN configuration c ON c.id = t.configuration
  JOIN final_evaluation a ON a.trial = t.id AND a.phase = 'after'
  WHERE t.status = 'done' AND c.method IS NOT 'source')
SELECT e.name AS experiment, p.configuration, c.label, p.metric, count(*) AS folds,
  avg(p.baseline) AS baseline, avg(p.value) AS mean, avg(p.value - p.baseline) AS delta,
  sum(CASE WHEN m.higher_is_better THEN p.value > p.baseline ELSE p.value < p.baseline END) AS folds_better
FROM paired p
JOIN experiment e ON e.id = p.experiment
JOIN configuration c ON c.id = p.configuration
JOIN metric m ON m.name = p.metric
WHERE p.baseline IS NOT NULL AND p.value IS NOT NULL
GROUP BY p.experiment, p.configuration, p.metric;
