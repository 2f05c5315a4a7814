#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <set>

#include "datasets/csv_table.h"
#include "datasets/file_content.h"
#include "datasets/label_table.h"
#include "datasets/loaders.h"
#include "datasets/memory_need.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

constexpr std::uint64_t kMaxInflatedBytes = std::uint64_t{1} << 33;
// A text column that nobody declared is more likely a name or an id when it has more values than this.
constexpr std::size_t kMaxFoundCategories = 256;
constexpr std::size_t kMaxDeclaredCategories = 65'536;
constexpr std::int64_t kMaxFeatures = 1 << 20;

enum class Role { ignored, feature, category, label, group, fold };

struct Column {
  std::string name;
  Role role = Role::feature;
  bool declared_category = false;
  std::int64_t numbers = 0, texts = 0;          // cells of a feature, counted in the first pass
  std::int64_t number_line = 0, text_line = 0;  // the first of each
  std::string first_text;
  std::vector<float> values;        // feature
  std::vector<std::int64_t> codes;  // category, label, group, fold: into names
  LabelTable names;
};

bool is_missing(std::string_view cell) {
  constexpr std::string_view kMissing[] = {"", "NA", "N/A", "NaN", "nan", "NAN", "?", "null", "NULL", "Null"};
  return std::find(std::begin(kMissing), std::end(kMissing), cell) != std::end(kMissing);
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

// Edits that turn one text into the other; columns are few and names short.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({change, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

class CsvLoader {
 public:
  CsvLoader(const DatasetSpec& spec, std::string_view text) : spec_(spec), text_(text), reader_(text, spec.path) {}

  Dataset::Parts load() {
    read_header();
    assign_roles();
    first_pass();
    decide_kinds();
    second_pass();
    return assemble();
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw Error(ErrorKind::data, spec_.path + ": " + what); }
  [[noreturn]] void fail(std::int64_t line, const std::string& what) const {
    throw Error(ErrorKind::data, spec_.path + ":" + std::to_string(line) + ": " + what);
  }

  void read_header() {
    std::vector<std::string_view> fields;
    if (!reader_.next(fields)) fail("is empty; its first line must name the columns");
    if (fields.size() == 1 && fields[0].find_first_of(";\t") != std::string_view::npos)
      fail(reader_.line(), "columns must be separated by commas");
    std::set<std::string_view> seen;
    for (const std::string_view field : fields) {
      if (!seen.insert(field).second)
        fail(reader_.line(), "column name '" + std::string(field) + "' is there twice; each needs a name of its own");
      columns_.push_back({});
      columns_.back().name = field;
    }
    const auto is_number = [](const Column& column) {
      double value;
      return parse_number(column.name, value);
    };
    if (std::all_of(columns_.begin(), columns_.end(), is_number))
      fail(reader_.line(), "holds numbers alone; the first line must name the columns");
  }

  std::string columns_told() const {
    std::string told;
    for (std::size_t i = 0; i < columns_.size() && i < 12; ++i) told += (i > 0 ? ", " : "") + columns_[i].name;
    return told + (columns_.size() > 12 ? ", ..." : "");
  }

  Column& named(const std::string& name, const std::string& key) {
    const Column* nearest = nullptr;
    std::size_t nearest_edits = std::max<std::size_t>(2, name.size() / 3) + 1;
    for (Column& column : columns_) {
      if (column.name == name) return column;
      if (column.name.size() > 200 || name.size() > 200) continue;
      const std::size_t edits = edit_distance(lower(column.name), lower(name));
      if (edits < nearest_edits && edits < std::max(name.size(), column.name.size())) {
        nearest = &column;
        nearest_edits = edits;
      }
    }
    throw Error(ErrorKind::config,
                key + ": '" + name + "' is no column of " + spec_.path +
                    (nearest != nullptr ? "; did you mean '" + nearest->name + "'?" : "; it has " + columns_told()));
  }

  void give_role(const std::string& name, const std::string& key, Role role) {
    Column& column = named(name, key);
    if (column.role != Role::feature)
      throw Error(ErrorKind::config, key + ": column '" + name + "' is used for something else already");
    column.role = role;
  }

  void assign_roles() {
    if (spec_.label_column.empty())
      throw Error(ErrorKind::config, "dataset.label_column: name the column of " + spec_.path +
                                         " that holds the labels; it has " + columns_told());
    give_role(spec_.label_column, "dataset.label_column", Role::label);
    if (!spec_.group_column.empty()) give_role(spec_.group_column, "dataset.group_column", Role::group);
    if (!spec_.fold_column.empty()) give_role(spec_.fold_column, "dataset.fold_column", Role::fold);
    for (const std::string& name : spec_.ignore_columns) give_role(name, "dataset.ignore_columns", Role::ignored);
    for (const std::string& name : spec_.categorical_columns) {
      give_role(name, "dataset.categorical_columns", Role::category);
      named(name, "").declared_category = true;
    }
    for (const Column& column : columns_)
      if (column.name.empty() && column.role != Role::ignored)
        fail(1, "a column has no name; give it one, or leave it out with dataset.ignore_columns: [\"\"]");
  }

  // Calls each(column index, cell) for the used cells of every row that is kept.
  template <class Each>
  void for_each_row(Each each) {
    reader_.rewind();
    std::vector<std::string_view> fields;
    reader_.next(fields);  // the header
    while (reader_.next(fields)) {
      if (fields.size() != columns_.size())
        fail(reader_.line(), "has " + std::to_string(fields.size()) + (fields.size() == 1 ? " field" : " fields") +
                                 " where the header names " + std::to_string(columns_.size()) + " columns");
      const auto missing = first_missing(fields);
      if (missing && spec_.missing == "drop") continue;
      if (missing) {
        refuse_missing(*missing);
      }
      each(std::span<const std::string_view>(fields));
    }
  }

  std::optional<std::size_t> first_missing(const std::vector<std::string_view>& fields) const {
    for (std::size_t c = 0; c < fields.size(); ++c)
      if (columns_[c].role != Role::ignored && is_missing(fields[c])) return c;
    return std::nullopt;
  }

  // Tells the first place and how many lines are concerned in all.
  [[noreturn]] void refuse_missing(std::size_t column) {
    const std::int64_t line = reader_.line();
    std::int64_t rows = 1;
    std::vector<std::string_view> fields;
    while (reader_.next(fields)) rows += fields.size() == columns_.size() && first_missing(fields).has_value();
    fail(line, "column '" + columns_[column].name + "' has no value" +
                   (rows > 1 ? " (" + std::to_string(rows) + " lines lack one)" : "") +
                   "; fill it in, or leave such lines out with dataset.missing: drop");
  }

  // Which of the undeclared columns hold numbers, which texts.
  void first_pass() {
    for_each_row([&](std::span<const std::string_view> fields) {
      ++rows_;
      for (std::size_t c = 0; c < fields.size(); ++c) {
        Column& column = columns_[c];
        if (column.role != Role::feature) continue;
        double value;
        if (parse_number(fields[c], value)) {
          if (column.numbers++ == 0) column.number_line = reader_.line();
        } else if (column.texts++ == 0) {
          column.text_line = reader_.line();
          column.first_text = fields[c].substr(0, 40);
        }
      }
    });
    if (rows_ == 0) fail(spec_.missing == "drop" ? "no line is left that lacks no value" : "has a header and no data");
  }

  void decide_kinds() {
    for (Column& column : columns_) {
      if (column.role != Role::feature || column.texts == 0) continue;
      // One text among numbers is a slip of the pen, not a category.
      if (column.numbers > column.texts)
        fail(column.text_line, "column '" + column.name + "': '" + column.first_text +
                                   "' is not a number, as most of the column is; correct it, or list the column in "
                                   "dataset.categorical_columns");
      column.role = Role::category;
    }
  }

  void second_pass() {
    for (Column& column : columns_) {
      if (column.role == Role::ignored) continue;
      if (column.role == Role::feature)
        column.values.reserve(static_cast<std::size_t>(rows_));
      else
        column.codes.reserve(static_cast<std::size_t>(rows_));
    }
    for_each_row([&](std::span<const std::string_view> fields) {
      for (std::size_t c = 0; c < fields.size(); ++c) {
        Column& column = columns_[c];
        if (column.role == Role::ignored) continue;
        if (column.role == Role::feature)
          column.values.push_back(number(column, fields[c]));
        else
          column.codes.push_back(code(column, fields[c]));
      }
    });
  }

  float number(const Column& column, std::string_view cell) const {
    double value = 0;
    parse_number(cell, value);
    const auto narrow = static_cast<float>(value);
    if (!std::isfinite(narrow))
      fail(reader_.line(), "column '" + column.name + "': '" + std::string(cell.substr(0, 40)) + "' " +
                               (std::isfinite(value) ? "is too large for float32" : "is not finite"));
    return narrow;
  }

  std::int64_t code(Column& column, std::string_view cell) const {
    const std::int64_t result = column.names.code(cell);
    if (column.role == Role::category) {
      const std::size_t limit = column.declared_category ? kMaxDeclaredCategories : kMaxFoundCategories;
      if (column.names.size() > limit)
        fail(reader_.line(), "column '" + column.name + "' has more than " + std::to_string(limit) +
                                 " different texts; leave it out with dataset.ignore_columns" +
                                 (column.declared_category ? "" : ", or list it in dataset.categorical_columns"));
    }
    return result;
  }

  Dataset::Parts assemble() {
    Dataset::Parts parts;
    std::int64_t width = 0;
    bool any_category = false;
    std::vector<LabelTable::Sorted> sorted(columns_.size());
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      Column& column = columns_[c];
      if (column.role == Role::ignored) continue;
      if (column.role == Role::feature) {
        ++width;
        continue;
      }
      sorted[c] = column.names.finish();
      if (column.role == Role::fold) {
        parts.given_folds = given_folds(column, sorted[c]);
        continue;
      }
      renumber(column.codes, sorted[c].position);
      if (column.role == Role::label) {
        require_classes(sorted[c].names.size(), rows_, spec_.path + ": column '" + column.name + "'");
        parts.class_names = sorted[c].names;
        parts.labels = std::move(column.codes);
      } else if (column.role == Role::group) {
        parts.groups = std::move(column.codes);
      } else {
        width += static_cast<std::int64_t>(sorted[c].names.size());
        any_category = true;
      }
    }
    if (width == 0) fail("no column is left to learn from");
    if (width > kMaxFeatures)
      fail("its categories make " + std::to_string(width) +
           " features; leave some columns out with dataset.ignore_columns");
    // A column of texts becomes many times its size; the width is bounded above, and rows are lines that there are.
    require_memory(static_cast<std::uint64_t>(rows_) * static_cast<std::uint64_t>(width) * sizeof(float), spec_.path);
    parts.sample_shape = {width};
    parts.samples.assign(static_cast<std::size_t>(rows_ * width), 0.0f);
    if (any_category) parts.one_hot.assign(static_cast<std::size_t>(width), false);
    fill_features(parts, sorted, width);
    return parts;
  }

  void fill_features(Dataset::Parts& parts, const std::vector<LabelTable::Sorted>& sorted, std::int64_t width) {
    std::int64_t at = 0;
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      Column& column = columns_[c];
      if (column.role == Role::feature) {
        for (std::int64_t row = 0; row < rows_; ++row)
          parts.samples[static_cast<std::size_t>(row * width + at)] = column.values[static_cast<std::size_t>(row)];
        ++at;
        column.values = {};
      } else if (column.role == Role::category) {
        for (std::int64_t row = 0; row < rows_; ++row)
          parts.samples[static_cast<std::size_t>(row * width + at + column.codes[static_cast<std::size_t>(row)])] =
              1.0f;
        const auto categories = static_cast<std::int64_t>(sorted[c].names.size());
        std::fill_n(parts.one_hot.begin() + at, categories, true);
        at += categories;
        column.codes = {};
      }
    }
  }

  // Whole numbers are kept, so that -1 can mean "always in training"; texts are numbered in sorted order.
  std::vector<std::int64_t> given_folds(Column& column, const LabelTable::Sorted& sorted) const {
    std::vector<std::int64_t> value_of(sorted.names.size());
    bool whole = true;
    for (std::size_t i = 0; i < sorted.names.size(); ++i) {
      double value = 0;
      whole = whole && parse_number(sorted.names[i], value) && std::floor(value) == value && std::abs(value) < 1e15;
      if (whole) value_of[i] = static_cast<std::int64_t>(value);
    }
    if (!whole) std::iota(value_of.begin(), value_of.end(), std::int64_t{0});
    std::vector<std::int64_t> folds = column.codes;
    renumber(folds, sorted.position);
    for (std::int64_t& fold : folds) fold = value_of[static_cast<std::size_t>(fold)];
    return folds;
  }

  const DatasetSpec& spec_;
  std::string_view text_;
  CsvReader reader_;
  std::vector<Column> columns_;
  std::int64_t rows_ = 0;
};

}  // namespace

Dataset::Parts load_csv(const DatasetSpec& spec) {
  if (spec.path.empty()) throw Error(ErrorKind::config, "dataset.path: name the csv file");
  if (spec.missing != "error" && spec.missing != "drop")
    throw Error(ErrorKind::config, "dataset.missing: '" + spec.missing + "' is not known; it may be error or drop");
  const MappedFile mapped = map_file(spec.path);
  if (!is_gzip(mapped.bytes)) return CsvLoader(spec, mapped.text()).load();
  const std::vector<std::byte> bytes = gunzip(mapped.bytes, kMaxInflatedBytes, spec.path);
  return CsvLoader(spec, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}).load();
}

}  // namespace tenfold
