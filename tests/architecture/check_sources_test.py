#!/usr/bin/env python3
"""The architecture check must fail where it should: each rule is broken once in a small tree."""
import contextlib
import io
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import check_sources  # noqa: E402

CLEAN = {
    "experiments/spec.h": "#pragma once\n",
    "experiments/parse.cpp": '#include <yaml-cpp/yaml.h>\n#include "experiments/spec.h"\n',
    "datasets/csv.h": '#pragma once\n#include "experiments/spec.h"\n',
    "datasets/csv.cpp": '#include "datasets/csv.h"\n\n#include <vector>\n',
    "trainer/protocol.h": "#pragma once\n",
    "trainer/train.cpp": '#include <ATen/ATen.h>\n#include "ttt/adapt.h"\n#include "datasets/csv.h"\n',
    "ttt/adapt.h": "#pragma once\n#include <ATen/ATen.h>\n",
    "db/store.cpp": '#include <sqlite3.h>\n#include "experiments/spec.h"\n',
    "runner/rank.cpp": '#include <mpi.h>\n#include "trainer/protocol.h"\n#include "db/store.h"\n',
}


class CheckSources(unittest.TestCase):
    def run_on(self, changes):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in {**CLEAN, **changes}.items():
                if text is None:
                    continue
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                code = check_sources.main(root)
            return code, printed.getvalue()

    def assert_fails(self, changes, *words):
        code, printed = self.run_on(changes)
        self.assertEqual(code, 1, printed)
        for word in words:
            self.assertIn(word, printed)

    def test_a_clean_tree_passes(self):
        code, printed = self.run_on({})
        self.assertEqual(code, 0, printed)

    def test_wrong_direction(self):
        self.assert_fails({"db/reader.cpp": '#include "datasets/csv.h"\n'}, "db/reader.cpp:1", "db may not include")
        self.assert_fails({"experiments/a.cpp": '\n#include "db/store.h"\n'}, "experiments/a.cpp:2")
        self.assert_fails({"ttt/b.cpp": '#include "trainer/protocol.h"\n'}, "ttt may not include trainer/protocol.h")

    def test_runner_sees_the_torch_free_headers_of_trainer_alone(self):
        self.assert_fails({"runner/a.cpp": '#include "trainer/layers.h"\n'}, "runner may not include trainer/layers.h")

    def test_libraries_stay_in_their_folders(self):
        for folder, header, library in [
            ("runner", "torch/torch.h", "LibTorch"),
            ("db", "c10/core/Device.h", "LibTorch"),
            ("trainer", "mpi.h", "MPI"),
            ("runner", "sqlite3.h", "SQLite"),
            ("datasets", "yaml-cpp/yaml.h", "yaml-cpp"),
        ]:
            self.assert_fails({f"{folder}/bad.cpp": f"#include <{header}>\n"}, f"{folder}/bad.cpp:1", library)

    def test_yaml_in_exactly_one_source(self):
        self.assert_fails({"experiments/more.cpp": "#include <yaml-cpp/yaml.h>\n"}, "exactly one .cpp")
        self.assert_fails({"experiments/parse.cpp": "int x;\n"}, "exactly one .cpp", "none")
        self.assert_fails({"experiments/parse.cpp": "", "experiments/y.h": "#pragma once\n#include <yaml-cpp/yaml.h>\n"},
                          "exactly one .cpp")

    def test_long_files_and_empty_names(self):
        self.assert_fails({"db/long.cpp": "int x;\n" * 401}, "401 lines")
        self.assert_fails({"tests/db/long_test.cpp": "int x;\n" * 601}, "601 lines")
        self.assert_fails({"db/utils.cpp": ""}, "a name that says nothing")

    def test_own_header_first_and_pragma_once(self):
        self.assert_fails({"datasets/csv.cpp": '#include "experiments/spec.h"\n#include "datasets/csv.h"\n'}, "first own include")
        self.assert_fails({"db/store.h": "int x;\n"}, "no #pragma once")
        self.assert_fails({"datasets/csv.cpp": '#include "csv.h"\n'}, "by its path from the root")

    def test_an_empty_folder_is_not_the_project(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(check_sources.main(pathlib.Path(folder)), 1)


if __name__ == "__main__":
    unittest.main()
