#include "runner/commands/diagnose_plots.h"

#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "db/text_table.h"
#include "experiments/error.h"
#include "runner/spawn.h"

namespace tenfold {
namespace {

namespace fs = std::filesystem;

void write_text(const fs::path& file, const std::string& text) {
  std::ofstream stream(file, std::ios::binary);
  stream << text;
  stream.close();
  if (!stream)
    throw Error(ErrorKind::storage, "cannot write " + file.string() + ": may you write there, is there space?");
}

std::vector<double> difference(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> result(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) result[i] = a[i] - b[i];
  return result;
}

// The columns that the script draws; an empty cell is a gap in the line.
std::string data_text(const InnerLossCurves& curves) {
  const std::vector<double> step = difference(curves.lprev, curves.lafter),
                            whole = difference(curves.l0, curves.lafter);
  const std::vector<std::vector<double>> columns = {curves.l0,
                                                    curves.lprev,
                                                    curves.lafter,
                                                    moving_average(curves.l0),
                                                    moving_average(curves.lprev),
                                                    moving_average(curves.lafter),
                                                    moving_average(step),
                                                    moving_average(whole)};
  std::ostringstream text;
  text << "position,l0,lprev,lafter,l0_average,lprev_average,lafter_average,step_improvement_average,"
          "cumulative_benefit_average\n";
  for (std::size_t i = 0; i < curves.size(); ++i) {
    text << curves.position[i];
    for (const std::vector<double>& column : columns)
      text << ',' << (std::isfinite(column[i]) ? exact_number(column[i]) : "");
    text << '\n';
  }
  return text.str();
}

// A gnuplot string, whatever the text holds.
std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : printable(text)) result.append(c == '\'' ? 2 : 1, c);
  return result + "'";
}

std::string script_text(const std::string& name, const std::string& title) {
  std::ostringstream text;
  text << "# Figure 5 of " << printable(title) << ", drawn by: gnuplot " << name << ".gnuplot\n"
       << R"(set datafile separator ','
set datafile missing ''
set key outside top center horizontal Left reverse samplen 2 noenhanced
set tmargin 5
set grid ytics lc rgb '#dddddd'
set border 3
set tics nomirror out
set format y '%g'
data = )"
       << quoted(name + ".csv") << R"(
do for [picture in 'png svg'] {
  if (picture eq 'png') { set terminal pngcairo size 1200,1500 font 'sans,14' background rgb 'white' }
  else { set terminal svg size 900,1125 font 'sans,12' background rgb 'white' dynamic }
  set output )"
       << quoted(name + ".") << R"(.picture
  set multiplot layout 3,1 title )"
       << quoted(title) << R"( noenhanced offset 0,0.2
  set xlabel 'token position'
  set ylabel 'reconstruction loss'
  plot data using 1:5 skip 1 with lines lw 2 lc rgb '#555555' title 'l0: initial weights', \
       data using 1:6 skip 1 with lines lw 2 lc rgb '#d55e00' title 'lprev: before the update', \
       data using 1:7 skip 1 with lines lw 2 lc rgb '#0072b2' title 'lafter: after the update'
  set ylabel 'per-step improvement'
  plot 0 with lines lw 1 lc rgb '#999999' notitle, \
       data using 1:8 skip 1 with lines lw 2 lc rgb '#0072b2' title 'lprev - lafter'
  set ylabel 'cumulative benefit'
  plot 0 with lines lw 1 lc rgb '#999999' notitle, \
       data using 1:9 skip 1 with lines lw 2 lc rgb '#0072b2' title 'l0 - lafter'
  unset multiplot
  unset output
}
)";
  return text.str();
}

// Where the shell would find it; nothing where it would not.
fs::path find_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');) {
    const fs::path program = fs::path(folder.empty() ? "." : folder) / name;
    std::error_code error;
    if (fs::is_regular_file(program, error) && ::access(program.c_str(), X_OK) == 0) return fs::absolute(program);
  }
  return {};
}

}  // namespace

std::string plot_figure5(const fs::path& folder, const std::string& name, const std::string& title,
                         const InnerLossCurves& curves) {
  write_text(folder / (name + ".csv"), data_text(curves));
  write_text(folder / (name + ".gnuplot"), script_text(name, title));
  for (const char* suffix : {".png", ".svg"}) {  // an older picture would pass for this one
    std::error_code ignored;
    fs::remove(folder / (name + suffix), ignored);
  }
  const fs::path gnuplot = find_program("gnuplot");
  if (gnuplot.empty())
    return "gnuplot is not installed (Debian: gnuplot-nox); then draw with: gnuplot " + name + ".gnuplot";
  const fs::path log = folder / (name + ".log");
  std::error_code ignored;
  fs::remove(log, ignored);
  ChildProcess child = spawn({gnuplot, {name + ".gnuplot"}, environment_with({}), log, -1, folder});
  const bool ended = child.wait_for(std::chrono::seconds(60));
  const std::string words = log_tail(log, 0);
  const bool drawn = fs::is_regular_file(folder / (name + ".png"), ignored) &&
                     fs::file_size(folder / (name + ".png"), ignored) > 0 &&
                     fs::is_regular_file(folder / (name + ".svg"), ignored);
  if (ended && drawn && child.how_it_ended() == "exited with code 0") {
    fs::remove(log, ignored);
    return "";
  }
  return "gnuplot " + (ended ? child.how_it_ended() : std::string("did not end within 60 s")) +
         (words.empty() ? "" : ": " + words);
}

}  // namespace tenfold
