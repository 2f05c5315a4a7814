#!/usr/bin/env python3
"""The built program as a user meets it: help, exit codes, messages. Usage: command_line_test.py BIN_DIR SOURCE_DIR"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import unittest

SOURCE = pathlib.Path(sys.argv.pop(2)).resolve()
PROGRAM = pathlib.Path(sys.argv.pop(1)).resolve() / "tenfold"
COMMANDS = ["run", "plan", "submit", "merge", "status", "query", "report", "diagnose", "import", "schema", "doctor", "version"]
SMOKE = SOURCE / "experiments/smoke.yaml"
LOSSES = "fold,step,total,entropy,diversity\n" + "".join(
    f"{fold},{step},{0.9 / (1 + step) + 0.15 * 0.2 + fold / 100:.6f},{0.9 / (1 + step) + fold / 100:.6f},0.2\n"
    for fold in range(5) for step in range(21))


class CommandLine(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.here = pathlib.Path(self.folder.name)
        # Rank variables of a surrounding job are none of the program's business here.
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_", "PMI_", "SLURM_"))}

    def tearDown(self):
        self.folder.cleanup()

    def call(self, *arguments, code=0, **options):
        done = subprocess.run([str(PROGRAM), *map(str, arguments)], capture_output=True, text=True, cwd=self.here,
                              env=self.environment, timeout=120, **options)
        if code is not None:
            self.assertEqual(done.returncode, code, f"{arguments}\n{done.stdout}\n{done.stderr}")
        self.assertNotIn("terminate called", done.stderr)
        return done

    def fails(self, *arguments, code=2):
        """A failing call says why on standard error, and nothing on standard output."""
        done = self.call(*arguments, code=code)
        self.assertEqual(done.stdout, "")
        self.assertTrue(done.stderr.strip())
        return done.stderr

    def import_losses(self, name="reference"):
        (self.here / "losses.csv").write_text(LOSSES)
        return self.call("import", "ttt-steps", "losses.csv", "--name", name).stdout

    def test_help_is_worth_reading(self):
        text = self.call("--help").stdout
        for command in COMMANDS:
            self.assertRegex(text, rf"(?m)^  {command} ")
            shown = self.call(command, "--help").stdout
            self.assertIn("Examples:", shown)
            self.assertIn(f"tenfold {command}", shown)
        for hidden in ["mpi-check", "rank", "empty-trials"]:
            self.assertNotIn(hidden, text + self.call("run", "--help").stdout)

    def test_submit_without_a_cluster(self):
        self.environment.update(PATH="/nowhere", TENFOLD_SITE=str(self.here / "site.yaml"))
        script = self.call("submit", SMOKE, "--slots", 2, "--time", "1-12", "--array", 3, "--dry-run").stdout
        self.assertTrue(script.startswith("#!/bin/bash\n#SBATCH --job-name="))
        self.assertIn("#SBATCH --time=1-12\n", script)
        self.assertIn('--shard "$SLURM_ARRAY_TASK_ID/3"', script)
        subprocess.run(["/bin/bash", "-n"], input=script, text=True, check=True)
        self.assertEqual([], list(self.here.iterdir()))
        self.assertIn("--gpus-per-node", self.fails("submit", SMOKE, "--time", "60"))
        self.assertIn("HH:MM:SS", self.fails("submit", SMOKE, "--slots", 2, "--time", "soon"))
        self.assertIn("multiple", self.fails("submit", SMOKE, "--slots", 3, "--nodes", 2))
        self.assertIn("sbatch is not in PATH", self.fails("submit", SMOKE, "--slots", 2, code=5))
        (self.here / "site.yaml").write_text("modul: [x]\n")
        self.assertIn("site.yaml:1:1: unknown key \"modul\"", self.fails("submit", SMOKE, "--slots", 2))

    def test_status_tells_cluster_jobs(self):
        for name, body in {"sbatch": "echo 77", "scontrol": "", "squeue": "echo '77|RUNNING|9:30|n1|None'"}.items():
            (self.here / name).write_text("#!/bin/sh\n" + body + "\n")
            (self.here / name).chmod(0o755)
        self.environment.update(PATH=f"{self.here}:{os.environ['PATH']}", TENFOLD_SITE=str(self.here / "site.yaml"))
        self.call("submit", SMOKE, "--slots", 2)

        def jobs():
            text = self.call("status").stdout
            (experiment,) = json.loads(self.call("status", "--format", "json").stdout)
            self.assertEqual((experiment["name"], experiment["trials"]["done"]), ("smoke", 0))
            return text, experiment["cluster_jobs"]

        text, (job,) = jobs()
        self.assertIn("job 77 (smoke): RUNNING on n1, 9:30 left", text)
        self.assertEqual((job["job"], job["slots"], job["array_tasks"], job["in_queue"]), ("77", 2, None, True))
        self.assertEqual(job["tasks"], [{"name": "77", "state": "RUNNING", "nodes": "n1", "time_left": "9:30", "reason": "None"}])
        (self.here / "squeue").write_text("#!/bin/sh\necho Invalid job id specified >&2\nexit 1\n")
        text, (job,) = jobs()
        self.assertIn("no longer in the queue", text)
        self.assertEqual((job["in_queue"], job["tasks"]), (False, []))
        self.environment["PATH"] = "/nowhere"
        text, (job,) = jobs()
        self.assertIn("unknown here: squeue is not in PATH", text)
        self.assertEqual((job["in_queue"], job["tasks"]), (None, []))
        self.assertIn("squeue is not in PATH", job["unknown_because"])

    def test_the_same_flag_for_the_store_everywhere(self):
        for command in ["run", "plan", "status", "query", "report", "diagnose", "import", "doctor"]:
            self.assertIn("--db FILE", self.call(command, "--help").stdout)

    def test_mistakes_on_the_command_line(self):
        self.assertIn("run", self.fails())
        self.assertIn("did you mean 'plan'?", self.fails("pln", "x.yaml"))
        self.assertIn("./tenfold", self.fails("setup"))
        self.assertIn("did you mean --slots?", self.fails("run", "x.yaml", "--slot", "3"))
        self.assertIn("KEY=VALUE", self.fails("plan", "x.yaml", "--set", "folds.k"))
        # A flag that is spelt right is not suggested again.
        self.assertNotIn("did you mean", self.fails("plan", "x.yaml", "--set", "folds.k"))
        self.assertNotIn("did you mean", self.fails("plan", "x.yaml", "--device", "gpu"))
        self.assertIn("see tenfold query --help", self.fails("query"))
        self.assertIn("xml", self.fails("query", "SELECT 1", "--format", "xml"))
        self.assertIn("--interval", self.fails("report", "a", "--interval", "0"))
        self.assertEqual(self.fails("zzzzzzzz").count("did you mean"), 0)

    def test_version_and_schema(self):
        self.assertRegex(self.call("version").stdout, r"^tenfold \d+\.\d+\.\d+\n$")
        self.assertEqual(self.call("--version").stdout, self.call("version").stdout)
        schema = json.loads(self.call("schema").stdout)
        for section in ["dataset", "folds", "model", "train", "ttt", "sweep"]:
            self.assertIn(section, schema["properties"])

    def test_plan_counts_what_a_run_would_do(self):
        plan = json.loads(self.call("plan", SMOKE, "--json", "--slots", 2, "--device", "cpu").stdout)
        self.assertEqual((len(plan["configurations"]), plan["fits"], plan["trials"]), (4, 2, 8))
        # 8-16-3 with one layer norm, by hand
        model = plan["models"][0]
        self.assertEqual(model["parameters"], 8 * 16 + 16 + 2 * 16 + 16 * 3 + 3)
        adapted = {a["patterns"]: a for a in model["adapted"]}
        self.assertEqual(adapted["norm"]["parameters"], 32)
        self.assertEqual(adapted["all"]["parameters"], model["parameters"])
        self.assertEqual(adapted["norm"]["configurations"], 2)
        # 120 samples a fold: 4 epochs of ceil(120/16), 2 fits; 5 passes of ceil(120/32), 8 trials
        self.assertEqual(plan["train_updates"], 2 * 4 * 8)
        self.assertEqual(plan["ttt_updates"], 8 * 5 * 4)
        self.assertEqual(plan["data"][0]["train_n"], {"least": 120, "most": 120})
        self.assertIsNone(plan["stored"])
        self.assertIsNone(plan["eta_s"])
        text = self.call("plan", SMOKE, "--slots", 2, "--device", "cpu").stdout
        for words in ["4 configurations, 2 fits, 8 trials", "64 in training, 160 in adaptation", "does not exist yet"]:
            self.assertIn(words, text)
        self.assertEqual(list(self.here.iterdir()), [])  # nothing starts, nothing is written

    def test_plan_needs_no_gpu_for_a_run_on_gpus(self):
        self.environment = {**self.environment, "CUDA_VISIBLE_DEVICES": ""}
        text = self.call("plan", SMOKE, "--device", "cuda").stdout
        self.assertIn("on 1 slot (cuda)", text)
        self.assertIn("none here: planned for one", text)
        text = self.call("plan", SMOKE, "--device", "cuda", "--slots", 8).stdout
        self.assertIn("on 8 slots (cuda)", text)

    def test_plan_tells_what_a_shard_owns(self):
        whole = json.loads(self.call("plan", SMOKE, "--json", "--slots", 2).stdout)
        self.assertIsNone(whole["shard"])
        folds = []
        for index in [1, 2]:
            plan = json.loads(self.call("plan", SMOKE, "--json", "--slots", 2, "--shard", f"{index}/2").stdout)
            self.assertEqual((plan["fits"], plan["trials"], plan["db"]), (1, 4, f"tenfold.shard-{index}-of-2.db"))
            self.assertEqual((plan["shard"]["index"], plan["shard"]["count"]), (index, 2))
            (fit,) = plan["shard"]["fits"]
            self.assertEqual(fit["trials"], whole["configurations"])
            folds.append((fit["repeat"], fit["fold"]))
        self.assertEqual(sorted(folds), [(0, 0), (0, 1)])
        text = self.call("plan", SMOKE, "--slots", 2, "--shard", "2/2").stdout
        repeat, fold = folds[1]
        for words in ["1 fit, 4 trials", "shard 2/2\n", f"  fit of repeat {repeat} fold {fold}, 4 trials\n    {whole['configurations'][0]}\n"]:
            self.assertIn(words, text)
        self.assertIn("fewer fits than shards", self.call("plan", SMOKE, "--shard", "3/3").stdout)
        self.assertIn("INDEX/COUNT", self.fails("plan", SMOKE, "--shard", "3/2"))

    def test_plan_follows_set_and_no_share(self):
        plan = json.loads(self.call("plan", SMOKE, "--json", "--set", "folds.k=3", "--set", "ttt.steps=7", "--no-share").stdout)
        self.assertEqual((plan["fits"], plan["trials"]), (12, 12))
        self.assertEqual(plan["ttt_updates"], 12 * 7 * 3)

    def test_plan_needs_no_cache_and_counts_the_folds_there_are(self):
        self.environment["TENFOLD_CACHE"] = "/proc/none"  # cannot be written
        plan = self.call("plan", SMOKE, "--set", "folds.kind=held_out_class").stdout
        self.assertIn("held_out_class, 3 folds:", plan)  # one a class, not folds.k
        self.assertIn("TENFOLD_CACHE", self.fails("run", SMOKE, code=6))

    def test_data_beside_the_experiment_file(self):
        study = self.here / "study"
        study.mkdir()
        (study / "rows.csv").write_text("a,b,y\n" + "".join(f"{i % 7},{i % 5},{i % 2}\n" for i in range(80)))
        (study / "rows.yaml").write_text(
            "dataset: {kind: csv, path: rows.csv, label_column: y}\nfolds: {k: 2}\nttt: {batch_size: 8}\n")
        self.assertIn("80 samples of 2, 2 classes", self.call("plan", "study/rows.yaml").stdout)
        said = self.fails("plan", "study/rows.yaml", "--set", "dataset.path=none.csv", code=3)
        self.assertIn("--set dataset.path=none.csv: none.csv: cannot be opened", said)
        self.assertTrue(self.fails("plan", "study/rows.yaml", "--set", "folds.k=60").startswith(
            "tenfold: --set folds.k=60: folds.k: 60 folds cannot"))
        (study / "many.yaml").write_text((study / "rows.yaml").read_text().replace("k: 2", "k: 60"))
        self.assertTrue(self.fails("plan", "study/many.yaml").startswith("study/many.yaml:2:12: folds.k: 60 folds"))
        (study / "what.yaml").write_text((study / "rows.yaml").read_text() + "model: {hidden: [8]}\n")
        self.assertTrue(self.fails("plan", "study/what.yaml", "--set", "ttt.parameters=norms").startswith(
            "tenfold: --set ttt.parameters=norms: ttt.parameters: 'norms' selects no parameter"))

    def test_hostile_data_are_named_before_anything_starts(self):
        corpus = SOURCE / "tests/fuzz/corpus"

        def cut(name):
            whole = (corpus / name).read_bytes()
            return whole[:len(whole) * 6 // 10]

        labels = (corpus / "idx/sound_labels.idx").read_bytes()
        (self.here / "labels").write_bytes(labels)
        (self.here / "sounds").mkdir()
        recurrent = "model: {kind: gru, units: 4}"
        language = "folds: {kind: kfold, k: 2}\nmodel: {kind: transformer_lm, layers: 1, width: 8, heads: 1}"
        cases = [  # name, bytes, more of the dataset, more of the file, what is said of it
            ("cut.npz", cut("npz/sound.npz"), "kind: npz", "", "cut off"),
            ("cut.npy", cut("npy/sound_columns.npy"), "kind: npy, labels: labels", "", "ends inside its header"),
            ("cut.idx", cut("idx/sound_images.idx"), "kind: idx, labels: labels", "", "has 3 bytes of data where"),
            ("cut.idx.gz", cut("idx/sound_images.idx.gz"), "kind: idx, labels: labels", "", "cut off"),
            ("cut.csv.gz", cut("csv/sound.csv.gz"), "kind: csv, label_column: y", "", "cut off"),
            ("short.csv", b"a,b,y\n1,2,0\n1,2\n", "kind: csv, label_column: y", "", "short.csv:3: "),
            ("cut.h5", cut("hdf5/sound_packed.h5"), "kind: hdf5", recurrent, "damaged"),
            ("breaks.h5", (corpus / "hdf5/breaks_the_library.h5").read_bytes(), "kind: hdf5", recurrent, "is not a number"),
            ("huge.mat", (corpus / "mat/eight_gigabytes.mat").read_bytes(), "kind: mat", recurrent, "damaged"),
            ("sounds/0_a_0.wav", cut("wav/sound_16.wav"), "kind: wav", recurrent, "is cut off"),
            ("cut_tokens.npy", cut("tokens/sound_u4.npy"), "kind: tokens, sequence_length: 4", language, "ends inside its header"),
        ]
        for name, content, dataset, more, said in cases:
            with self.subTest(name):
                (self.here / name).write_bytes(content)
                (self.here / "x.yaml").write_text(f"dataset: {{{dataset}, path: {name.split('/')[0]}}}\nttt: {{batch_size: 4}}\n{more}\n")
                for command in ["plan", "run"]:
                    error = self.fails(command, "x.yaml", code=3)
                    self.assertIn(name, error)
                    self.assertIn(said, error)

    def test_mistakes_in_a_file_are_listed_with_their_places(self):
        file = self.here / "wrong.yaml"
        file.write_text(SMOKE.read_text().replace("epochs: 4", "epoks: 4").replace("k: 2", "k: two"))
        said = self.fails("plan", file.name)
        self.assertEqual(len(re.findall(r"(?m)^wrong\.yaml:\d+:\d+: ", said)), 2, said)
        self.assertIn("epochs", said)
        self.fails("plan", "absent.yaml")

    def test_import_status_query_report(self):
        self.assertIn("105", self.import_losses())
        self.assertIn("reference", self.call("status").stdout)
        status = json.loads(self.call("status", "reference", "--format", "json").stdout)
        self.assertEqual(status[0]["trials"]["done"], 5)
        self.assertEqual(self.call("query", "SELECT count(*) AS n FROM ttt_step", "--format", "csv").stdout, "n\n105\n")
        piped = self.call("query", "-", "--format", "json", input="SELECT max(step) AS last FROM ttt_step")
        self.assertEqual(json.loads(piped.stdout), [{"last": 20}])
        report = self.call("report", "reference").stdout
        self.assertIn("entropy", report)
        self.assertEqual(self.call("report", "reference", "--out", "report.txt").stdout, "")
        self.assertEqual((self.here / "report.txt").read_text(), report)
        self.assertEqual([p.name for p in self.here.glob("*.partial*")], [])
        json.loads(self.call("report", "reference", "--format", "json").stdout)
        self.assertIn("|", self.call("report", "reference", "--format", "markdown", "--interval", "5").stdout)

    def test_what_the_store_does_not_have(self):
        self.assertIn("tenfold.db", self.fails("query", "SELECT 1", code=6))
        self.assertIn("none.db", self.fails("status", "--db", "none.db", code=6))
        self.assertIn("is a folder", self.fails("status", "--db", ".", code=6))
        self.import_losses()
        self.assertIn("nothere", self.fails("status", "nothere"))
        self.assertIn("nothere", self.fails("report", "nothere"))
        self.assertIn("reference", self.fails("import", "ttt-steps", "losses.csv", "--name", "reference"))
        self.fails("query", "SELEC 1")
        self.fails("import", "ttt-steps", "absent.csv", "--name", "x", code=3)
        self.fails("report", "reference", "--out", "no/such/folder/report.txt", code=6)

    def test_folders_where_files_are_wanted(self):
        folder = self.here / "folder"
        folder.mkdir()
        self.assertIn("cannot be read", self.fails("import", "ttt-steps", folder, "--name", "x", code=3))
        self.assertIn("is a folder", self.fails("plan", folder))
        self.assertIn("no host", self.fails("run", SMOKE, "--hostfile", folder))
        self.import_losses()
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            self.call("query", "-", stdin=descriptor, code=2)
        finally:
            os.close(descriptor)

    def test_places_that_cannot_be_looked_at(self):
        self.assertIn("cannot be looked at", self.fails("query", "SELECT 1", "--db", "x" * 300, code=6))
        self.environment["TMPDIR"] = "/nowhere"
        said = self.call("doctor", code=None).stdout
        self.assertIn("TMPDIR=/nowhere", said)
        self.assertNotIn("internal", said)

    def test_a_query_changes_nothing(self):
        self.import_losses()
        before = self.call("query", "SELECT * FROM experiment", "--format", "csv").stdout
        for sql in ["DELETE FROM experiment", "PRAGMA user_version = 9", "ATTACH 'other.db' AS other", "VACUUM",
                    "SELECT 1; DELETE FROM experiment"]:
            self.fails("query", sql)
        self.assertEqual(self.call("query", "SELECT * FROM experiment", "--format", "csv").stdout, before)
        self.assertFalse((self.here / "other.db").exists())

    def test_a_full_disk_under_the_output_is_an_error(self):
        self.import_losses()
        with open("/dev/full", "w") as full:
            done = subprocess.run([str(PROGRAM), "query", "SELECT 1 AS one"], stdout=full, stderr=subprocess.PIPE, text=True,
                                  cwd=self.here, env=self.environment, timeout=60)
        self.assertEqual(done.returncode, 6, done.stderr)
        self.assertIn("standard output", done.stderr)

    def test_watching_ends_when_nothing_runs(self):
        self.import_losses()
        begin = time.monotonic()
        out = self.call("status", "--watch", "--interval", "0.1").stdout
        self.assertEqual(out.count("reference:"), 3)
        self.assertLess(time.monotonic() - begin, 30)

    def test_doctor_finds_what_is_here_and_what_is_not(self):
        done = subprocess.run([str(PROGRAM), "doctor", "--format", "json"], capture_output=True, text=True, cwd=self.here,
                              env=self.environment, timeout=120)
        findings = {f["subject"]: f for f in json.loads(done.stdout)}
        self.assertEqual(done.returncode, int(any(f["health"] == "missing" for f in findings.values())), done.stdout)
        for subject in ["compiler", "MPI", "store", "SQLite", "cores", "memory"]:
            self.assertIn(findings[subject]["health"], ["ok", "advice"], findings[subject])
        self.assertIn("two ranks met", findings["MPI"]["detail"])
        has_trainer = (PROGRAM.parent / "tenfold-trainer").exists()
        self.assertEqual(findings["LibTorch"]["health"], "ok" if has_trainer else "missing")
        for f in findings.values():
            self.assertEqual(bool(f["advice"]), f["health"] != "ok", f)
        absent = self.call("doctor", "--db", "absent/folder/x.db", code=1).stdout
        self.assertRegex(absent, r"(?m)^missing  store .*absent/folder")
        self.assertIn("mkdir -p", absent)
        self.assertEqual(list(self.here.iterdir()), [])  # what it tried is gone again


if __name__ == "__main__":
    unittest.main()
