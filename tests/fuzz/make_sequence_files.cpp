#include "tests/fuzz/make_sequence_files.h"

#include <hdf5.h>
#include <matio.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace tenfold::fuzz {
namespace {

constexpr std::size_t kSteps[] = {3, 2};
constexpr std::size_t kFeatures = 4;

void require(bool well, const char* what) {
  if (!well) throw std::runtime_error(std::string(what) + " failed");
}

void put_text(hid_t group, const std::string& value, bool variable) {
  const hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
  H5Tset_size(type, variable ? H5T_VARIABLE : value.size() + 1);
  const hid_t attribute = H5Acreate2(group, "session", type, space, H5P_DEFAULT, H5P_DEFAULT);
  const char* pointer = value.c_str();
  require(H5Awrite(attribute, type, variable ? static_cast<const void*>(&pointer) : pointer) >= 0, "H5Awrite");
}

void put_number(hid_t group, const char* name, std::int64_t value) {
  const hid_t space = H5Screate(H5S_SCALAR);
  const hid_t attribute = H5Acreate2(group, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
  require(H5Awrite(attribute, H5T_NATIVE_INT64, &value) >= 0, "H5Awrite");
}

template <class T>
void put(hid_t group, const char* name, std::vector<hsize_t> shape, const std::vector<T>& values, hid_t type,
         hid_t made) {
  const hid_t space =
      shape.empty() ? H5Screate(H5S_SCALAR) : H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
  const hid_t set = H5Dcreate2(group, name, type, space, H5P_DEFAULT, made, H5P_DEFAULT);
  require(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) >= 0, "H5Dwrite");
}

// Identifiers are closed with the file.
void make_hdf5(const std::filesystem::path& file, bool latest, bool packed, bool one_label) {
  const hid_t access = H5Pcreate(H5P_FILE_ACCESS), plain = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
  if (latest) H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
  H5Pset_obj_track_times(plain, false);
  const hid_t made = H5Pcopy(plain);
  if (packed) {
    const hsize_t chunk[] = {2, 2};
    H5Pset_chunk(made, 2, chunk);
    H5Pset_shuffle(made);
    H5Pset_deflate(made, 6);
    H5Pset_fletcher32(made);
  }
  const hid_t opened = H5Fcreate(file.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access);
  require(opened >= 0, "H5Fcreate");
  for (std::size_t i = 0; i < 2; ++i) {
    const hid_t group =
        H5Gcreate2(opened, ("trial_" + std::to_string(9 + i)).c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    std::vector<float> values;
    for (std::size_t v = 0; v < kSteps[i] * kFeatures; ++v) values.push_back(static_cast<float>(100 * i + v));
    put<float>(group, "input_features", {kSteps[i], kFeatures}, values, H5T_NATIVE_FLOAT, made);
    if (one_label)
      put<std::int32_t>(group, "seq_class_ids", {}, {static_cast<std::int32_t>(i)}, H5T_NATIVE_INT32, plain);
    else
      put<std::int32_t>(group, "seq_class_ids", {4}, {7, 3, 7, 0}, H5T_NATIVE_INT32, plain);
    put_text(group, i == 0 ? "tuesday" : "monday", packed);
    if (!one_label) put_number(group, "seq_len", static_cast<std::int64_t>(kSteps[i]));
  }
  require(H5Fclose(opened) >= 0, "H5Fclose");
}

// Values as MATLAB has them: the first dimension fastest. Owned by what they are put into.
matvar_t* numbers(const char* name, std::vector<std::size_t> shape, std::vector<double> values) {
  return Mat_VarCreate(name, MAT_C_DOUBLE, MAT_T_DOUBLE, static_cast<int>(shape.size()), shape.data(), values.data(),
                       0);
}
matvar_t* text(const char* name, std::string value) {
  std::size_t shape[] = {1, value.size()};
  return Mat_VarCreate(name, MAT_C_CHAR, MAT_T_UINT8, 2, shape, value.data(), 0);
}
matvar_t* cells(const char* name, const std::vector<matvar_t*>& of) {
  std::size_t shape[] = {1, of.size()};
  matvar_t* const made = Mat_VarCreate(name, MAT_C_CELL, MAT_T_CELL, 2, shape, nullptr, 0);
  for (std::size_t i = 0; i < of.size(); ++i) Mat_VarSetCell(made, static_cast<int>(i), of[i]);
  return made;
}
std::vector<double> values_of(std::size_t i) {
  std::vector<double> values;
  for (std::size_t v = 0; v < kSteps[i] * kFeatures; ++v) values.push_back(static_cast<double>(100 * i + v));
  return values;
}

void make_mat(const std::filesystem::path& file, mat_ft version, matio_compression packed,
              const std::vector<matvar_t*>& variables) {
  std::filesystem::remove(file);
  mat_t* const opened = Mat_CreateVer(file.c_str(), "MATLAB file", version);
  require(opened != nullptr, "Mat_CreateVer");
  for (matvar_t* variable : variables) {
    require(Mat_VarWrite(opened, variable, packed) == 0, "Mat_VarWrite");
    Mat_VarFree(variable);
  }
  Mat_Close(opened);
}

std::vector<matvar_t*> as_cells(bool named_sessions) {
  return {
      cells("input_features", {numbers(nullptr, {3, 4}, values_of(0)), numbers(nullptr, {2, 4}, values_of(1))}),
      cells("seq_class_ids", {numbers(nullptr, {3, 1}, {2, 2, 5}), numbers(nullptr, {1, 2}, {5, 5})}),
      // matio 1.5.23 writes packed cells of texts with sizes that are not theirs.
      named_sessions ? cells("session", {text(nullptr, "tuesday"), text(nullptr, "monday")})
                     : cells("session", {numbers(nullptr, {1, 1}, {30}), numbers(nullptr, {1, 1}, {4})}),
  };
}

matvar_t* as_structs() {
  const char* fields[] = {"input_features", "seq_class_ids", "session", nullptr};
  const std::size_t shape[] = {2, 1};
  matvar_t* const trials = Mat_VarCreateStruct2("trials", 2, shape, fields);
  for (std::size_t i = 0; i < 2; ++i) {
    Mat_VarSetStructFieldByName(trials, fields[0], i, numbers(nullptr, {kSteps[i], kFeatures}, values_of(i)));
    Mat_VarSetStructFieldByName(trials, fields[1], i, numbers(nullptr, {1, 1}, {static_cast<double>(i)}));
    Mat_VarSetStructFieldByName(trials, fields[2], i, text(nullptr, i == 0 ? "tuesday" : "monday"));
  }
  return trials;
}

std::vector<matvar_t*> as_array() {
  std::vector<double> values(24);
  for (std::size_t v = 0; v < values.size(); ++v) values[v] = static_cast<double>(v);
  return {numbers("input_features", {3, 4, 2}, values), numbers("seq_class_ids", {3, 2}, {1, 1, 2, 2, 1, 1}),
          text("session", "monday")};
}

}  // namespace

void make_hdf5_files(const std::filesystem::path& folder) {
  H5dont_atexit();
  make_hdf5(folder / "sound_steps.h5", false, false, false);
  make_hdf5(folder / "sound_packed.h5", false, true, false);
  make_hdf5(folder / "sound_one_label.h5", false, false, true);
  make_hdf5(folder / "sound_latest.h5", true, true, true);
}

void make_mat_files(const std::filesystem::path& folder) {
  make_mat(folder / "sound_cells.mat", MAT_FT_MAT5, MAT_COMPRESSION_NONE, as_cells(true));
  make_mat(folder / "sound_packed.mat", MAT_FT_MAT5, MAT_COMPRESSION_ZLIB, as_cells(false));
  make_mat(folder / "sound_structs.mat", MAT_FT_MAT5, MAT_COMPRESSION_NONE, {as_structs()});
  make_mat(folder / "sound_array.mat", MAT_FT_MAT5, MAT_COMPRESSION_NONE, as_array());
  make_mat(folder / "sound_packed_array.mat", MAT_FT_MAT5, MAT_COMPRESSION_ZLIB, as_array());
  make_mat(folder / "sound_version_4.mat", MAT_FT_MAT4, MAT_COMPRESSION_NONE,
           {numbers("input_features", {3, 4}, values_of(0)), numbers("seq_class_ids", {3, 1}, {1, 2, 1})});
  make_mat(folder / "sound_version_73.mat", MAT_FT_MAT73, MAT_COMPRESSION_NONE, as_array());
}

}  // namespace tenfold::fuzz
