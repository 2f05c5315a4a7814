#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "datasets/dataset.h"
#include "tests/datasets/test_files.h"

namespace tenfold {
namespace {

using test::error_of;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;

class Csv : public testing::Test {
 protected:
  DatasetSpec spec(const std::string& content) {
    DatasetSpec result;
    result.kind = "csv";
    result.path = folder_.write("d.csv", content);
    result.label_column = "y";
    return result;
  }
  Dataset load(const std::string& content) { return load_dataset(spec(content)); }
  std::string data_error(const std::string& content) {
    return error_of(ErrorKind::data, [&] { load(content); });
  }
  test::TemporaryFolder folder_;
};

TEST_F(Csv, ReadsNumbersAndLabels) {
  const Dataset data = load("a,b,y\n1,2.5,dog\n-3,+4e1, cat \n0.5,6,dog");
  EXPECT_THAT(data.samples(), ElementsAre(1, 2.5, -3, 40, 0.5, 6));
  EXPECT_THAT(data.labels(), ElementsAre(1, 0, 1));
  EXPECT_THAT(data.class_names(), ElementsAre("cat", "dog"));
  EXPECT_EQ(data.sample_shape(), std::vector<std::int64_t>{2});
  EXPECT_TRUE(data.groups().empty());
  EXPECT_TRUE(data.one_hot().empty());
}

TEST_F(Csv, FollowsRfc4180) {
  const Dataset data = load(
      "\xEF\xBB\xBF\"a\",\"name, full\",y\r\n1,\"x \"\"1\"\"\",p\r\n\r\n2,\"two\nlines\",q\r\n3,\"x \"\"1\"\"\",p\r\n");
  EXPECT_EQ(data.size(), 3);
  EXPECT_THAT(data.samples(), ElementsAre(1, 0, 1, /**/ 2, 1, 0, /**/ 3, 0, 1));  // "two lines" before "x "1""
  EXPECT_THAT(data.one_hot(), ElementsAre(false, true, true));
}

TEST_F(Csv, LineBreaksDoNotMatter) {
  const Dataset unix_lines = load("a,y\n1,p\n2,q\n");
  EXPECT_EQ(load("a,y\r\n1,p\r\n2,q").fingerprint(), unix_lines.fingerprint());
  EXPECT_EQ(load("a,y\r1,p\r2,q\r").fingerprint(), unix_lines.fingerprint());
}

TEST_F(Csv, GzipIsReadToo) {
  EXPECT_EQ(load(test::gzipped("a,y\n1,p\n2,q\n")).fingerprint(), load("a,y\n1,p\n2,q\n").fingerprint());
}

TEST_F(Csv, NumericLabelsAreSortedByValue) {
  const Dataset data = load("a,y\n1,10\n2,9\n3,10.0\n4,-1\n");
  EXPECT_THAT(data.class_names(), ElementsAre("-1", "9", "10"));
  EXPECT_THAT(data.labels(), ElementsAre(2, 1, 2, 0));
}

TEST_F(Csv, CategoriesAreSortedAndStayInTheColumnsPlace) {
  const Dataset data = load("a,colour,b,y\n1,red,5,p\n2,blue,6,q\n3,red,7,p\n");
  EXPECT_EQ(data.sample_shape(), std::vector<std::int64_t>{4});
  EXPECT_THAT(data.samples(), ElementsAre(1, 0, 1, 5, /**/ 2, 1, 0, 6, /**/ 3, 0, 1, 7));
  EXPECT_THAT(data.one_hot(), ElementsAre(false, true, true, false));
}

TEST_F(Csv, NumbersCanBeDeclaredCategories) {
  DatasetSpec declared = spec("code,y\n10,p\n9,q\n10,p\nx,p\n");
  declared.categorical_columns = {"code"};
  EXPECT_THAT(load_dataset(declared).samples(), ElementsAre(1, 0, 0, /**/ 0, 1, 0, /**/ 1, 0, 0, /**/ 0, 0, 1));
}

TEST_F(Csv, GroupsFoldsAndIgnoredColumns) {
  DatasetSpec full = spec("id,who,a,part,y\nk1,zoe,1,-1,p\nk2,adam,2,0,q\nk3,zoe,3,7,p\n");
  full.group_column = "who";
  full.fold_column = "part";
  full.ignore_columns = {"id"};
  const Dataset data = load_dataset(full);
  EXPECT_THAT(data.groups(), ElementsAre(1, 0, 1));
  EXPECT_THAT(data.given_folds(), ElementsAre(-1, 0, 7));
  EXPECT_THAT(data.samples(), ElementsAre(1, 2, 3));
  full.path = folder_.write("e.csv", "id,who,a,part,y\nk1,zoe,1,train,p\nk2,adam,2,test,q\n");
  EXPECT_THAT(load_dataset(full).given_folds(), ElementsAre(1, 0));
}

TEST_F(Csv, MissingValuesAreToldWithLineAndColumn) {
  for (const std::string missing : {"", "NA", "NaN", "?", "null", "\"\"", " "}) {
    const std::string message = data_error("a,age,y\n1,2,p\n3,\"4\",q\n5," + missing + ",p\n6," + missing + ",q\n");
    EXPECT_THAT(message, HasSubstr("d.csv:4: column 'age' has no value (2 lines lack one)")) << missing;
    EXPECT_THAT(message, HasSubstr("dataset.missing: drop"));
  }
  EXPECT_THAT(data_error("a,y\n1,\n"), HasSubstr("d.csv:2: column 'y' has no value"));
}

TEST_F(Csv, LinesAreCountedThroughQuotedBreaks) {
  EXPECT_THAT(data_error("a,t,y\r\n1,\"x\r\ny\r\nz\",p\r\n\r\n2,,q\r\n"), HasSubstr("d.csv:6: column 't'"));
}

TEST_F(Csv, MissingLinesCanBeLeftOut) {
  DatasetSpec dropping = spec("a,junk,y\n1,,p\n,1,q\n3,1,q\n4,1,?\n");
  dropping.missing = "drop";
  dropping.ignore_columns = {"junk"};
  const Dataset data = load_dataset(dropping);
  EXPECT_THAT(data.samples(), ElementsAre(1, 3));
  dropping.path = folder_.write("e.csv", "a,junk,y\n,1,p\n");
  EXPECT_THAT(error_of(ErrorKind::data, [&] { load_dataset(dropping); }), HasSubstr("no line is left"));
}

TEST_F(Csv, AMistypedColumnIsSuggested) {
  DatasetSpec mistyped = spec("Petal,label,y\n1,p,2\n");
  mistyped.label_column = "lable";
  EXPECT_THAT(error_of(ErrorKind::config, [&] { load_dataset(mistyped); }),
              HasSubstr("dataset.label_column: 'lable' is no column of"));
  EXPECT_THAT(error_of(ErrorKind::config, [&] { load_dataset(mistyped); }), HasSubstr("did you mean 'label'?"));
  mistyped.label_column = "label";
  mistyped.group_column = "petal";
  EXPECT_THAT(error_of(ErrorKind::config, [&] { load_dataset(mistyped); }), HasSubstr("did you mean 'Petal'?"));
  mistyped.group_column = "something else";
  EXPECT_THAT(error_of(ErrorKind::config, [&] { load_dataset(mistyped); }), HasSubstr("it has Petal, label, y"));
  mistyped.group_column = "label";
  EXPECT_THAT(error_of(ErrorKind::config, [&] { load_dataset(mistyped); }), HasSubstr("used for something else"));
  mistyped.label_column = "";
  EXPECT_THAT(error_of(ErrorKind::config, [&] { load_dataset(mistyped); }), HasSubstr("dataset.label_column"));
}

TEST_F(Csv, RefusesWhatIsWrongWithItsLine) {
  EXPECT_THAT(data_error(""), HasSubstr("is empty"));
  EXPECT_THAT(data_error("a,y\n"), HasSubstr("no data"));
  EXPECT_THAT(data_error("a,y\n1,p\n2,q,r\n"), HasSubstr("d.csv:3: has 3 fields where the header names 2 columns"));
  EXPECT_THAT(data_error("a,y\n1,p\n2\n"), HasSubstr("d.csv:3: has 1 field where"));
  EXPECT_THAT(data_error("a,y\n1,p\n2,\"q\n3,p\n"), HasSubstr("d.csv:3: a quoted field begins here and never ends"));
  EXPECT_THAT(data_error("a,y\n1,p\"q\n"), HasSubstr("d.csv:2: a quote inside a field"));
  EXPECT_THAT(data_error("a,y\n1,\"p\"q\n"), HasSubstr("d.csv:2: something follows the closing quote"));
  EXPECT_THAT(data_error(std::string("a,y\n1,p\0\n", 9)), HasSubstr("d.csv:2: holds a zero byte"));
  EXPECT_THAT(data_error("a,a,y\n"), HasSubstr("'a' is there twice"));
  EXPECT_THAT(data_error("1,2,3\n4,5,6\n"), HasSubstr("the first line must name the columns"));
  EXPECT_THAT(data_error("a;y\n1;p\n"), HasSubstr("separated by commas"));
  EXPECT_THAT(data_error("\xFF\xFE"
                         "a"),
              HasSubstr("UTF-16"));
  EXPECT_THAT(data_error("a,y\n1,p\ninf,q\n"), HasSubstr("d.csv:3: column 'a': 'inf' is not finite"));
  EXPECT_THAT(data_error("a,y\n1,p\n1e300,q\n"), HasSubstr("d.csv:3: column 'a': '1e300' is too large for float32"));
  EXPECT_THAT(data_error("a,y\n1,p\n1e999,q\n"), HasSubstr("is not finite"));
  EXPECT_THAT(data_error("a,y\n1,p\n2,p\n"), HasSubstr("only one class"));
  EXPECT_THAT(data_error("y\np\nq\n"), HasSubstr("no column is left"));
  EXPECT_THAT(data_error("a,y\n1,p\n2,q\n3,p\n1.2.3,q\n"), HasSubstr("d.csv:5: column 'a': '1.2.3' is not a number"));
  EXPECT_THAT(data_error(",a,y\n0,1,p\n1,2,q\n"), HasSubstr("ignore_columns: [\"\"]"));
}

TEST_F(Csv, AnUnnamedIndexColumnCanBeIgnored) {
  DatasetSpec pandas = spec(",a,y\n0,1,p\n1,2,q\n");
  pandas.ignore_columns = {""};
  EXPECT_THAT(load_dataset(pandas).samples(), ElementsAre(1, 2));
}

TEST_F(Csv, NamesOfClassesAreUtf8) {
  EXPECT_THAT(load("a,y\n1,caf\xC3\xA9\n2,tea\n").class_names(), ElementsAre("caf\xC3\xA9", "tea"));
  EXPECT_THAT(data_error("a,y\n1,caf\xE9\n2,tea\n"), HasSubstr("d.csv: the name of a class, 'caf?', is not UTF-8"));
}

TEST_F(Csv, TinyNumbersAreNotRefused) { EXPECT_THAT(load("a,y\n1e-400,p\n-0.0,q\n").samples(), ElementsAre(0, 0)); }

TEST_F(Csv, ATextForEveryLineIsNotACategory) {
  std::string content = "name,y\n";
  for (int i = 0; i < 300; ++i) content += "id" + std::to_string(i) + (i % 2 == 0 ? ",p\n" : ",q\n");
  EXPECT_THAT(data_error(content), HasSubstr("column 'name' has more than 256 different texts"));
  DatasetSpec declared = spec(content);
  declared.categorical_columns = {"name"};
  EXPECT_EQ(load_dataset(declared).features(), 300);
}

TEST_F(Csv, TellsAFileThatIsNotThere) {
  DatasetSpec absent = spec("");
  absent.path = (folder_ / "absent.csv").string();
  EXPECT_THAT(error_of(ErrorKind::data, [&] { load_dataset(absent); }),
              HasSubstr("absent.csv: cannot be opened: No such"));
  absent.path = folder_.path().string();
  EXPECT_THAT(error_of(ErrorKind::data, [&] { load_dataset(absent); }), HasSubstr("is a folder"));
}

}  // namespace
}  // namespace tenfold
