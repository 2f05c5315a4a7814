-- The store of tenfold, schema version 1. SCHEMA.md explains every table, view and column.
-- Times are UTC text (2026-11-22T02:15:00.000Z), durations seconds (_s), sizes bytes (_bytes).
-- NULL in a number column means "not applicable" or "could not be computed".

CREATE TABLE metric(
  name TEXT PRIMARY KEY,
  higher_is_better INTEGER NOT NULL,
  counts INTEGER NOT NULL,
  meaning TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE dataset(
  id INTEGER PRIMARY KEY,
  fingerprint TEXT NOT NULL UNIQUE,
  samples INTEGER NOT NULL,
  sample_shape TEXT NOT NULL,
  classes INTEGER NOT NULL
) STRICT;

CREATE TABLE experiment(
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  revision INTEGER NOT NULL,
  origin TEXT NOT NULL CHECK (origin IN ('run', 'import')),
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL
) STRICT;

CREATE TABLE experiment_revision(
  experiment INTEGER NOT NULL REFERENCES experiment(id),
  revision INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  file TEXT NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (experiment, revision)
) STRICT, WITHOUT ROWID;

CREATE TABLE configuration(
  id INTEGER PRIMARY KEY,
  experiment INTEGER NOT NULL REFERENCES experiment(id),
  label TEXT NOT NULL,
  revision INTEGER NOT NULL,
  position INTEGER NOT NULL,
  method TEXT,
  identity TEXT NOT NULL,
  specification TEXT,
  UNIQUE (experiment, identity)
) STRICT;

CREATE TABLE configuration_parameter(
  configuration INTEGER NOT NULL REFERENCES configuration(id),
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (configuration, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE fold(
  id INTEGER PRIMARY KEY,
  experiment INTEGER NOT NULL REFERENCES experiment(id),
  repeat INTEGER NOT NULL,
  fold INTEGER NOT NULL,
  split_hash TEXT NOT NULL,
  dataset INTEGER REFERENCES dataset(id),
  train_n INTEGER,
  validation_n INTEGER,
  test_n INTEGER,
  UNIQUE (experiment, repeat, fold, split_hash, dataset)
) STRICT;

CREATE TABLE fit(
  id INTEGER PRIMARY KEY,
  identity TEXT NOT NULL UNIQUE,
  status TEXT NOT NULL CHECK (status IN ('pending', 'running', 'done', 'failed', 'stopped')),
  repeat INTEGER NOT NULL,
  fold INTEGER NOT NULL,
  split_hash TEXT NOT NULL,
  seed INTEGER NOT NULL,
  array_key TEXT NOT NULL,
  reason TEXT
) STRICT;

CREATE TABLE trial(
  id INTEGER PRIMARY KEY,
  experiment INTEGER NOT NULL REFERENCES experiment(id),
  configuration INTEGER NOT NULL REFERENCES configuration(id),
  repeat INTEGER NOT NULL,
  fold INTEGER NOT NULL,
  split INTEGER NOT NULL REFERENCES fold(id),
  fit INTEGER REFERENCES fit(id),
  identity TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('pending', 'running', 'done', 'failed', 'stopped')),
  seed INTEGER,
  revision INTEGER NOT NULL,
  array_key TEXT,
  reason TEXT,
  UNIQUE (configuration, identity)
) STRICT;
CREATE INDEX trial_by_fit ON trial(fit, status);
CREATE INDEX trial_by_experiment ON trial(experiment);

CREATE TABLE attempt(
  id INTEGER PRIMARY KEY,
  fit INTEGER REFERENCES fit(id),
  trial INTEGER REFERENCES trial(id),
  number INTEGER NOT NULL,
  rank INTEGER NOT NULL,
  host TEXT NOT NULL,
  pid INTEGER NOT NULL,
  device TEXT NOT NULL,
  slot INTEGER NOT NULL,
  log TEXT NOT NULL,
  started_at TEXT NOT NULL,
  finished_at TEXT,
  resumed_from_step INTEGER,
  wall_s REAL,
  peak_memory_bytes INTEGER,
  outcome TEXT NOT NULL CHECK (outcome IN ('running', 'done', 'failed', 'stopped')),
  reason TEXT,
  CHECK ((fit IS NULL) <> (trial IS NULL))
) STRICT;
CREATE INDEX attempt_by_fit ON attempt(fit) WHERE fit IS NOT NULL;
CREATE INDEX attempt_by_trial ON attempt(trial) WHERE trial IS NOT NULL;
CREATE INDEX attempt_running ON attempt(id) WHERE outcome = 'running';

CREATE TABLE train_step(
  fit INTEGER NOT NULL REFERENCES fit(id),
  step INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  loss REAL,
  lr REAL,
  grad_norm REAL,
  wall_s REAL,
  PRIMARY KEY (fit, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE ttt_step(
  trial INTEGER NOT NULL REFERENCES trial(id),
  step INTEGER NOT NULL,
  total REAL,
  entropy REAL,
  diversity REAL,
  diversity_weight REAL,
  class_entropy REAL,
  classes_predicted INTEGER,
  max_class_share REAL,
  grad_norm REAL,
  lr REAL,
  wall_s REAL,
  PRIMARY KEY (trial, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE evaluation(
  trial INTEGER NOT NULL REFERENCES trial(id),
  phase TEXT NOT NULL CHECK (phase IN ('train', 'validation', 'before', 'online', 'after')),
  step INTEGER NOT NULL,
  metric TEXT NOT NULL REFERENCES metric(name),
  value REAL,
  hits INTEGER,
  total INTEGER,
  PRIMARY KEY (trial, phase, metric, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE fit_evaluation(
  fit INTEGER NOT NULL REFERENCES fit(id),
  phase TEXT NOT NULL CHECK (phase IN ('train', 'validation', 'before', 'online', 'after')),
  step INTEGER NOT NULL,
  metric TEXT NOT NULL REFERENCES metric(name),
  value REAL,
  hits INTEGER,
  total INTEGER,
  PRIMARY KEY (fit, phase, metric, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoint(
  id INTEGER PRIMARY KEY,
  fit INTEGER REFERENCES fit(id),
  trial INTEGER REFERENCES trial(id),
  attempt INTEGER NOT NULL REFERENCES attempt(id),
  path TEXT NOT NULL,
  array_index INTEGER NOT NULL,
  step INTEGER NOT NULL,
  sha256 TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  history INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  CHECK ((fit IS NULL) <> (trial IS NULL))
) STRICT;
CREATE INDEX checkpoint_by_fit ON checkpoint(fit, step) WHERE fit IS NOT NULL;
CREATE INDEX checkpoint_by_trial ON checkpoint(trial, step) WHERE trial IS NOT NULL;
CREATE INDEX checkpoint_by_path ON checkpoint(path);

CREATE TABLE event(
  id INTEGER PRIMARY KEY,
  at TEXT NOT NULL,
  trial INTEGER REFERENCES trial(id),
  kind TEXT NOT NULL,
  detail TEXT NOT NULL
) STRICT;

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
