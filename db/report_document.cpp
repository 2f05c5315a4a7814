#include "db/report_document.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "db/text_table.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

// Sentences are wrapped where a terminal would cut a word.
std::string wrapped(const std::string& sentence, std::size_t width, std::string indent,
                    const std::string& hanging = "") {
  std::string out, line;
  std::size_t begin = 0;
  while (begin < sentence.size()) {
    const std::size_t end = std::min(sentence.find(' ', begin), sentence.size());
    const std::string word = sentence.substr(begin, end - begin);
    if (!line.empty() && display_width(line) + 1 + display_width(word) > width) {
      out += indent + line + "\n";
      if (out.size() == indent.size() + line.size() + 1) indent += hanging;
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
    begin = end + 1;
  }
  return out + indent + line + "\n";
}

std::string indented(const std::string& lines, const std::string& indent) {
  std::string out;
  for (std::size_t begin = 0; begin < lines.size();) {
    const std::size_t end = std::min(lines.find('\n', begin), lines.size());
    out += indent + lines.substr(begin, end - begin) + "\n";
    begin = end + 1;
  }
  return out;
}

TextTable text_table(const ReportTable& table) {
  std::vector<TextTable::Column> columns;
  for (std::size_t i = 0; i < table.columns.size(); ++i)
    columns.push_back({printable(table.columns[i]), std::any_of(table.rows.begin(), table.rows.end(),
                                                                [&](const auto& row) { return row[i].is_number(); })});
  TextTable text(columns);
  for (const auto& row : table.rows) {
    std::vector<std::string> cells;
    for (const Cell& cell : row) cells.push_back(printable(cell.text()));
    text.add(std::move(cells));
  }
  return text;
}

std::string render_text(const ReportDocument& document) {
  constexpr std::size_t kWidth = 100;
  std::string out = document.title + "\n" + std::string(display_width(document.title), '=') + "\n";
  for (const std::string& sentence : document.sentences) out += wrapped(sentence, kWidth - 2, "", "  ");
  for (const ReportSection& section : document.sections) {
    out += "\n" + section.heading + "\n" + std::string(display_width(section.heading), '-') + "\n";
    for (const std::string& sentence : section.sentences) out += wrapped(sentence, kWidth, "");
    for (const ReportTable& table : section.tables) {
      if (table.rows.empty()) continue;
      out += "\n" + (table.title.empty() ? "" : printable(table.title) + "\n") + text_table(table).text("  ");
    }
    for (const ReportFinding& finding : section.findings) {
      out += "\n" + wrapped("* " + finding.statement, kWidth - 2, "", "  ");
      if (!finding.detail.empty()) out += wrapped(finding.detail, kWidth - 4, "  ");
      if (!finding.yaml.empty()) out += "  To change in the experiment file:\n" + indented(finding.yaml, "      ");
    }
    if (!section.notes.empty()) out += "\n";
    for (const std::string& note : section.notes) out += wrapped(note, kWidth - 2, "  ");
  }
  return out;
}

std::string render_markdown(const ReportDocument& document) {
  std::string out = "# " + document.title + "\n";
  for (const std::string& sentence : document.sentences) out += "\n" + sentence + "\n";
  for (const ReportSection& section : document.sections) {
    out += "\n## " + section.heading + "\n";
    for (const std::string& sentence : section.sentences) out += "\n" + sentence + "\n";
    for (const ReportTable& table : section.tables) {
      if (table.rows.empty()) continue;
      out +=
          "\n" + (table.title.empty() ? "" : "**" + printable(table.title) + "**\n\n") + text_table(table).markdown();
    }
    for (const ReportFinding& finding : section.findings) {
      out += "\n- " + finding.statement + (finding.detail.empty() ? "" : " " + finding.detail) + "\n";
      if (!finding.yaml.empty()) out += "\n  ```yaml\n" + indented(finding.yaml, "  ") + "  ```\n";
    }
    for (const std::string& note : section.notes) out += "\n*" + note + "*\n";
  }
  return out;
}

// Tables of one name joined, with their titles as a first column where they stand for groups.
std::vector<ReportTable> machine_tables(const std::vector<ReportTable>& tables) {
  std::vector<ReportTable> joined;
  for (const ReportTable& table : tables) {
    auto place =
        std::find_if(joined.begin(), joined.end(), [&](const auto& other) { return other.name == table.name; });
    if (place == joined.end()) {
      joined.push_back({table.name, "", "", table.columns, {}});
      place = joined.end() - 1;
      if (!table.group_column.empty()) place->columns.insert(place->columns.begin(), table.group_column);
    }
    for (std::vector<Cell> row : table.rows) {
      if (!table.group_column.empty()) row.insert(row.begin(), Cell(table.title));
      place->rows.push_back(std::move(row));
    }
  }
  return joined;
}

nlohmann::ordered_json json_value(const Cell& cell) {
  if (const auto* text = std::get_if<std::string>(&cell.value())) return *text;
  if (const auto* integer = std::get_if<std::int64_t>(&cell.value())) return *integer;
  if (const auto* number = std::get_if<double>(&cell.value()); number != nullptr && std::isfinite(*number))
    return *number;
  return nullptr;
}

std::string render_json(const ReportDocument& document) {
  nlohmann::ordered_json json{{"title", document.title}, {"summary", document.sentences}};
  json["sections"] = nlohmann::ordered_json::array();
  for (const ReportSection& section : document.sections) {
    nlohmann::ordered_json tables = nlohmann::ordered_json::object();
    for (const ReportTable& table : machine_tables(section.tables)) {
      nlohmann::ordered_json& rows = tables[table.name] = nlohmann::ordered_json::array();
      for (const auto& row : table.rows) {
        nlohmann::ordered_json object = nlohmann::ordered_json::object();
        for (std::size_t i = 0; i < row.size(); ++i) object[table.columns[i]] = json_value(row[i]);
        rows.push_back(std::move(object));
      }
    }
    json["sections"].push_back(
        {{"heading", section.heading}, {"sentences", section.sentences}, {"tables", tables}, {"notes", section.notes}});
    for (const ReportFinding& finding : section.findings)
      json["sections"].back()["findings"].push_back(
          {{"statement", finding.statement}, {"detail", finding.detail}, {"yaml", finding.yaml}});
  }
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted.append(c == '"' ? 2 : 1, c);
  return quoted + "\"";
}

// One block a table: its name after '#', the header, the rows, an empty line.
std::string render_csv(const ReportDocument& document) {
  std::string out;
  for (const ReportSection& section : document.sections)
    for (const ReportTable& table : machine_tables(section.tables)) {
      out.append(out.empty() ? "" : "\n").append("# " + table.name + "\n");
      for (std::size_t i = 0; i < table.columns.size(); ++i)
        out.append(i == 0 ? "" : ",").append(csv_cell(table.columns[i]));
      out += '\n';
      for (const auto& row : table.rows) {
        for (std::size_t i = 0; i < row.size(); ++i) out.append(i == 0 ? "" : ",").append(csv_cell(row[i].exact()));
        out += '\n';
      }
    }
  bool header = false;
  for (const ReportSection& section : document.sections)
    for (const ReportFinding& finding : section.findings) {
      if (!header) out.append(out.empty() ? "" : "\n").append("# findings\nsection,statement,detail,yaml\n");
      header = true;
      out += csv_cell(section.heading) + "," + csv_cell(finding.statement) + "," + csv_cell(finding.detail) + "," +
             csv_cell(finding.yaml) + "\n";
    }
  return out;
}

}  // namespace

Cell Cell::number(double value, int digits) {
  Cell cell;
  if (std::isnan(value)) return cell;
  cell.value_ = value;
  cell.digits_ = digits;
  return cell;
}

Cell Cell::signed_number(double value, int digits) {
  Cell cell = number(value, digits);
  cell.sign_ = true;
  return cell;
}

std::string Cell::text() const {
  if (const auto* text = std::get_if<std::string>(&value_)) return *text;
  if (const auto* integer = std::get_if<std::int64_t>(&value_)) return std::to_string(*integer);
  if (const auto* number = std::get_if<double>(&value_)) {
    const std::string text = fixed_number(*number, digits_);
    const bool shows_zero = text.find_first_of("123456789") == std::string::npos;  // no "+0.00"
    return sign_ && *number > 0 && !shows_zero ? "+" + text : text;
  }
  return "-";
}

std::string Cell::exact() const {
  if (const auto* number = std::get_if<double>(&value_)) return exact_number(*number);
  return value_.index() == 0 ? "" : text();
}

void check_report_format(const std::string& format) {
  if (format != "text" && format != "markdown" && format != "json" && format != "csv")
    throw Error(ErrorKind::config, "unknown report format '" + format + "'; allowed: text, markdown, json, csv");
}

std::string render(const ReportDocument& document, const std::string& format) {
  check_report_format(format);
  if (format == "markdown") return render_markdown(document);
  if (format == "json") return render_json(document);
  if (format == "csv") return render_csv(document);
  return render_text(document);
}

}  // namespace tenfold
