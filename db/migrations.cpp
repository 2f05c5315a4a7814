#include "db/schema.h"

#include <iterator>

// What brings an older store forward. A step is never edited once a version with it was released: it describes the
// tables as they were then. Views are no part of it: they are dropped and made anew from views.sql.
namespace tenfold {
namespace {

// Sequences, tokens and TTT layers: what data sets hold beside samples, and what models record inside.
constexpr const char* kFrom1To2 = R"sql(
ALTER TABLE dataset ADD COLUMN kind TEXT;
ALTER TABLE dataset ADD COLUMN label_kind TEXT;
ALTER TABLE dataset ADD COLUMN steps INTEGER;
ALTER TABLE dataset ADD COLUMN shortest INTEGER;
ALTER TABLE dataset ADD COLUMN longest INTEGER;
ALTER TABLE dataset ADD COLUMN smallest_value REAL;
ALTER TABLE dataset ADD COLUMN largest_value REAL;
ALTER TABLE configuration ADD COLUMN parameters INTEGER;

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

CREATE TABLE parameter_group_step(
  fit INTEGER NOT NULL REFERENCES fit(id),
  step INTEGER NOT NULL,
  parameter_group TEXT NOT NULL CHECK (parameter_group IN ('base', 'ttt', 'gate', 'lora')),
  grad_norm REAL,
  update_norm REAL,
  PRIMARY KEY (fit, step, parameter_group)
) STRICT, WITHOUT ROWID;
)sql";

// Scores of minimal pairs, rates lowered after values that were not finite, jobs given to a cluster, and which version
// of the results a revision asks for.
constexpr const char* kFrom2To3 = R"sql(
ALTER TABLE fit ADD COLUMN rate_scale REAL NOT NULL DEFAULT 1;
ALTER TABLE fit ADD COLUMN rate_lowered INTEGER NOT NULL DEFAULT 0;
ALTER TABLE fit ADD COLUMN rate_lowered_from INTEGER;
ALTER TABLE trial ADD COLUMN rate_scale REAL NOT NULL DEFAULT 1;
ALTER TABLE trial ADD COLUMN rate_lowered INTEGER NOT NULL DEFAULT 0;
ALTER TABLE trial ADD COLUMN rate_lowered_from INTEGER;

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

ALTER TABLE experiment_revision ADD COLUMN results_version INTEGER;

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
)sql";

// Which fits were stopped where values were not finite; until now told by events alone.
constexpr const char* kFrom3To4 = R"sql(
ALTER TABLE fit ADD COLUMN stopped_nonfinite INTEGER NOT NULL DEFAULT 0;
UPDATE fit SET stopped_nonfinite = 1 WHERE status = 'done' AND EXISTS (
  SELECT 1 FROM attempt a JOIN event e ON e.kind = 'stopped_nonfinite' AND e.trial IS NULL
    AND substr(e.detail, -length(a.reason)) = a.reason
  WHERE a.fit = fit.id AND a.outcome = 'done' AND a.reason <> '');
)sql";

constexpr const char* kSteps[] = {kFrom1To2, kFrom2To3, kFrom3To4};
static_assert(std::size(kSteps) == kSchemaVersion - 1);

}  // namespace

std::span<const char* const> migrations() { return kSteps; }

}  // namespace tenfold
