# What bootstrap and gpu-check build of llama.cpp: sourced by both.

# Flags of CMake beside those of the kind of build. On a Mac ggml would take Metal and BLAS unasked.
llama_flags=(
  -DCMAKE_BUILD_TYPE=Release -DGGML_OPENMP=OFF -DGGML_RPC=ON -DGGML_RPC_RDMA=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_COMMON=ON -DLLAMA_BUILD_TESTS=OFF
  -DGGML_METAL=OFF -DGGML_BLAS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF
  -DCMAKE_INSTALL_LIBDIR=lib
)

# Of the common library what templates and lines from a terminal need: the rest takes as long to compile as all of that.
trim_common() {  # SOURCE
  sed -i.all -E '/^ +(arg|debug|download|hf-cache|imatrix-loader|preset)\.(cpp|h)$/d; /cpp-httplib/d' \
    "$1/common/CMakeLists.txt"
  sed -i.all '/cpp-httplib/d' "$1/vendor/CMakeLists.txt"
}

# Debian 12's Vulkan headers lack the extension by which ggml asks the validation layer for advice; nothing else needs it.
fit_vulkan() {  # SOURCE
  local headers=${VULKAN_SDK:-/usr}/include/vulkan/vulkan.hpp
  [ -e "$headers" ] && ! grep -q LayerSettingsCreateInfoEXT "$headers" || return 0
  sed -i.all -e '/std::vector<vk::LayerSettingEXT> settings = {/,/vk::LayerSettingsCreateInfoEXT layer_setting_info/d' \
    -e 's/extensions, &layer_setting_info);/extensions);/' "$1/ggml/src/ggml-vulkan/ggml-vulkan.cpp"
}

# llama.cpp installs no header of its common library, and no static one.
install_common() {  # SOURCE BUILD PREFIX; joined, as a shell in a condition goes on after a failure
  mkdir -p "$3/include/llama-common/jinja" &&
    cp "$1"/common/*.h "$3/include/llama-common/" &&
    cp "$1"/common/jinja/*.h "$3/include/llama-common/jinja/" &&
    find "$2" -name 'libllama-common*.a' -exec sh -c 'folder=$1; shift; cp "$@" "$folder"' sh "$3/lib/" {} +
}
