# Homebrew takes formulae from taps alone: in a clone of this repository,
#   brew tap-new --no-git local/ladder && cp packaging/ladder.rb "$(brew --repository local/ladder)/Formula/"
#   HOMEBREW_LADDER_SOURCE="file://$PWD" brew install --HEAD local/ladder/ladder
class Ladder < Formula
  desc "Fine-tunes language models by side networks on frozen, quantised GGUF models"
  homepage "https://arxiv.org/abs/2512.14237"
  license "Apache-2.0"
  head ENV.fetch("HOMEBREW_LADDER_SOURCE", "file://#{File.expand_path("..", __dir__)}"), using: :git, branch: "main"

  depends_on "pkgconf" => :build
  depends_on xcode: ["26.0", :build]
  depends_on "python" => :build
  depends_on macos: :sequoia

  def install
    # Templates need llama.cpp's common library, which the formula of llama.cpp does not install: the pinned one is built.
    ENV["LADDER_LLAMA"] = "build"
    system "scripts/bootstrap", "llama"
    ENV["PKG_CONFIG_PATH"] = buildpath/".deps/pkgconfig"
    system "swift", "build", "--disable-sandbox", "-c", "release", "--product", "ladder"
    bin.install ".build/release/ladder"
    generate_completions_from_executable(bin/"ladder", "--generate-completion-script", shells: [:bash, :zsh, :fish])
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/ladder --version") unless head?
    assert_match "CPU", shell_output("#{bin}/ladder inspect --devices")
  end
end
