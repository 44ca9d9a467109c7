#include "preloads.hpp"

#include <filesystem>
#include <vector>

namespace weft::engine::cli {

namespace fs = std::filesystem;

std::string find_preload(const std::string& name, std::string& error) {
  std::error_code ignored;
  const fs::path here = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  std::vector<fs::path> places = {here.parent_path() / "preload", here.parent_path() / "lib" / "weft",
                                  here.parent_path() / "weft" / "lib"};
  // Of the Python package: beside that, whichever Python it was installed for.
  for (const auto& folder : fs::directory_iterator(here.parent_path() / "lib", ignored))
    if (folder.path().filename().string().starts_with("python3"))
      for (const char* packages : {"site-packages", "dist-packages"})
        places.push_back(folder.path() / packages / "weft" / "lib");
  for (const fs::path& place : places) {
    const fs::path library = place / name;
    if (!fs::exists(library, ignored)) continue;
    if (library.string().find_first_of(": ") == std::string::npos) return library;
    error = library.string() +
            " cannot be preloaded, since the loader takes a space or colon in its path for the end "
            "of it: move Weft to a folder without";
    return {};
  }
  error = name + " is neither in " + places[0].string() + " (build tree) nor in " + places[1].string() +
          " (installed): build it, or install Weft again";
  return {};
}

}  // namespace weft::engine::cli
