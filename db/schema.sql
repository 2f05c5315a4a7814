-- The store of tenfold, schema version 4. SCHEMA.md explains every table, view and column.
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
  classes INTEGER NOT NULL,
  kind TEXT,
  label_kind TEXT,
  steps INTEGER,
  shortest INTEGER,
  longest INTEGER,
  smallest_value REAL,
  largest_value REAL
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
  results_version INTEGER,
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
  parameters INTEGER,
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
  reason TEXT,
  rate_scale REAL NOT NULL DEFAULT 1,
  rate_lowered INTEGER NOT NULL DEFAULT 0,
  rate_lowered_from INTEGER,
  stopped_nonfinite INTEGER NOT NULL DEFAULT 0
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
  rate_scale REAL NOT NULL DEFAULT 1,
  rate_lowered INTEGER NOT NULL DEFAULT 0,
  rate_lowered_from INTEGER,
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

-- What a fit or a trial recorded inside its model. The views inner_loss, gate and position_loss show both by trial.

CREATE TABLE trial_inner_loss(
  trial INTEGER NOT NULL REFERENCES trial(id),
  phase TEXT NOT NULL CHECK (phase IN ('train', 'validation', 'before', 'online', 'after')),
  step INTEGER NOT NULL,
  layer INTEGER NOT NULL,
  position INTEGER NOT NULL,
  l0 REAL,
  lprev REAL,
  lafter REAL,
  PRIMARY KEY (trial, step, phase, layer, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE fit_inner_loss(
  fit INTEGER NOT NULL REFERENCES fit(id),
  phase TEXT NOT NULL CHECK (phase IN ('train', 'validation', 'before', 'online', 'after')),
  step INTEGER NOT NULL,
  layer INTEGER NOT NULL,
  position INTEGER NOT NULL,
  l0 REAL,
  lprev REAL,
  lafter REAL,
  PRIMARY KEY (fit, step, phase, layer, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE trial_gate(
  trial INTEGER NOT NULL REFERENCES trial(id),
  step INTEGER NOT NULL,
  layer INTEGER NOT NULL,
  mean_tanh REAL,
  min_tanh REAL,
  max_tanh REAL,
  PRIMARY KEY (trial, step, layer)
) STRICT, WITHOUT ROWID;

CREATE TABLE fit_gate(
  fit INTEGER NOT NULL REFERENCES fit(id),
  step INTEGER NOT NULL,
  layer INTEGER NOT NULL,
  mean_tanh REAL,
  min_tanh REAL,
  max_tanh REAL,
  PRIMARY KEY (fit, step, layer)
) STRICT, WITHOUT ROWID;

CREATE TABLE trial_position_loss(
  trial INTEGER NOT NULL REFERENCES trial(id),
  phase TEXT NOT NULL CHECK (phase IN ('train', 'validation', 'before', 'online', 'after')),
  step INTEGER NOT NULL,
  position INTEGER NOT NULL,
  codebook INTEGER NOT NULL,
  loss REAL,
  weight REAL,
  PRIMARY KEY (trial, step, phase, codebook, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE fit_position_loss(
  fit INTEGER NOT NULL REFERENCES fit(id),
  phase TEXT NOT NULL CHECK (phase IN ('train', 'validation', 'before', 'online', 'after')),
  step INTEGER NOT NULL,
  position INTEGER NOT NULL,
  codebook INTEGER NOT NULL,
  loss REAL,
  weight REAL,
  PRIMARY KEY (fit, step, phase, codebook, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE minimal_pairs(
  trial INTEGER NOT NULL REFERENCES trial(id),
  phase TEXT NOT NULL CHECK (phase IN ('train', 'validation', 'before', 'online', 'after')),
  step INTEGER NOT NULL,
  task TEXT NOT NULL,
  score REAL,
  low REAL,
  high REAL,
  hits INTEGER NOT NULL,
  ties INTEGER NOT NULL,
  undefined INTEGER NOT NULL,
  total INTEGER NOT NULL,
  PRIMARY KEY (trial, step, phase, task)
) STRICT, WITHOUT ROWID;

CREATE TABLE parameter_group_step(
  fit INTEGER NOT NULL REFERENCES fit(id),
  step INTEGER NOT NULL,
  parameter_group TEXT NOT NULL CHECK (parameter_group IN ('base', 'ttt', 'gate', 'lora')),
  grad_norm REAL,
  update_norm REAL,
  PRIMARY KEY (fit, step, parameter_group)
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

CREATE TABLE cluster_job(
  id INTEGER PRIMARY KEY,
  job TEXT NOT NULL,
  experiment TEXT NOT NULL,
  script TEXT NOT NULL,
  submitted_at TEXT NOT NULL,
  submitted_from TEXT NOT NULL,
  nodes INTEGER NOT NULL,
  gpus_per_node INTEGER NOT NULL,
  slots INTEGER NOT NULL,
  array_tasks INTEGER,
  time_limit TEXT,
  queue TEXT,
  account TEXT,
  launcher TEXT NOT NULL
) STRICT;
