import Foundation
import LadderBackbone
import LadderCore
import LadderMethods

/// A model card for the hub: YAML front matter, then what was trained on what, how, with which figures, and how to use it.
struct ModelCard {
  let title: String
  let manifest: RunDirectory.Manifest
  let metrics: [TrainingStep]
  /// The hub's name.
  let baseModel: String?
  let license: String?
  /// The merged model's file.
  let merged: String?
  let figures: [String]

  private var configuration: TrainingConfiguration { manifest.configuration }
  private var isLoRA: Bool { if case .lora = configuration.method { true } else { false } }

  func text() throws -> String {
    let parts = [frontMatter, try introduction, use, try settings, data, results].filter { !$0.isEmpty }
    return parts.joined(separator: "\n\n") + "\n"
  }

  // MARK: - Front matter

  private var frontMatter: String {
    var lines = ["---"]
    if let license { lines.append("license: \(Self.quoted(license))") }
    if let baseModel {
      lines.append("base_model: \(Self.quoted(baseModel))")
      lines.append("base_model_relation: adapter")
    }
    lines.append("library_name: \(isLoRA ? "peft" : "ladder")")
    lines.append("pipeline_tag: text-generation")
    lines.append("tags:")
    lines += (isLoRA ? ["lora", "qlora", "gguf", "llama-cpp"] : ["ladder-side-tuning"]).map { "- \($0)" }
    return (lines + ["---"]).joined(separator: "\n")
  }

  /// A text as YAML reads it back, whatever it holds.
  private static func quoted(_ text: String) -> String {
    let isPlain = text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_./".contains($0)) }
    if isPlain, text.first?.isLetter == true,
      !["true", "false", "null", "yes", "no", "on", "off"].contains(text.lowercased())
    {
      return text
    }
    return "\"" + text.shown.replacingOccurrences(of: "\\", with: "\\\\").replacingOccurrences(of: "\"", with: "\\\"")
      + "\""
  }

  /// A text from elsewhere as a part of Markdown.
  private static func plain(_ text: String) -> String {
    text.shown.reduce(into: "") { $0 += "\\`*_[]<>|#".contains($1) ? "\\\($1)" : String($1) }
  }

  // MARK: - Text

  private var modelName: String { baseModel ?? manifest.backbone.name }

  private var introduction: String {
    get throws {
      let outline = ModelOutline(blocks: manifest.backbone.blocks, width: manifest.backbone.width)
      let described = try configuration.method.described(on: outline)
      let base = baseModel.map { "[\($0)](https://huggingface.co/\($0))" } ?? Self.plain(manifest.backbone.name)
      let what =
        isLoRA
        ? "A low-rank adapter (\(described.text))"
        : "A ladder side network (\(manifest.method): \(described.noun) \(described.text))"
      return """
        # \(Self.plain(title))

        \(what) for \(base), with \(manifest.parameters) trained parameters, made with Ladder on the model's GGUF \
        (architecture \(Self.plain(manifest.backbone.architecture)), \(manifest.backbone.blocks) blocks, fingerprint \
        `\(manifest.backbone.fingerprint.shown)`).
        """
    }
  }

  private var use: String {
    var text = """
      ## Use

      With Ladder, on the GGUF that it was trained on:

          ladder generate --model model.gguf --adapter this-folder --prompt "…"
          ladder chat --model model.gguf --adapter this-folder
      """
    guard isLoRA else {
      return text
        + "\n\nThe side network reads the hidden states of that model alone; programs without Ladder cannot run it."
    }
    text += """


      With llama.cpp:

          llama-cli -m model.gguf --lora adapter.gguf
      """
    if let merged {
      text += """


        `\(merged)` is the model with the adapter in its weights; any program on llama.cpp runs it:

            llama-cli -m \(merged)
        """
    }
    return text + """


      With PEFT:

      ```python
      from peft import PeftModel
      from transformers import AutoModelForCausalLM

      base = AutoModelForCausalLM.from_pretrained("\(modelName.replacingOccurrences(of: "\"", with: "").shown)")
      model = PeftModel.from_pretrained(base, "this-folder")
      ```
      """
  }

  private var settings: String {
    get throws {
      var rows: [(String, String)] = [
        ("method", manifest.method),
        (
          "learning rate",
          "\(configuration.learningRate), \(configuration.schedule.rawValue), warm-up \(configuration.warmup)"
        ),
        ("batch size", String(configuration.batchSize)),
        (
          configuration.steps == nil ? "epochs" : "steps",
          configuration.steps.map { String($0) } ?? String(configuration.epochs)
        ),
        ("longest sample", "\(configuration.maxLength) tokens"),
        ("weight decay", String(configuration.weightDecay)),
        ("gradient clipped at", String(configuration.clip)),
        ("seed", String(configuration.seed)),
      ]
      if let objective = configuration.objective { rows.append(("objective", objective.rawValue)) }
      if configuration.averaging > 0 { rows.append(("averaged over the last", String(configuration.averaging))) }
      return "## Settings\n\n" + Self.table(rows) + "\n\nAll of them stand in `ladder.json`."
    }
  }

  private var data: String {
    guard let name = manifest.identity?.name else { return "" }
    let files = RunExport.fileNames(name)
    let valid = manifest.identity?.validationName.map { "; validated on \(Self.plain(RunExport.fileNames($0)))" } ?? ""
    return "## Data\n\nTrained on \(Self.plain(files))\(valid)."
  }

  private var results: String {
    var rows: [(String, String)] = []
    if let last = metrics.last {
      let tail = metrics.suffix(max(1, min(10, metrics.count / 10)))
      let loss = tail.reduce(0) { $0 + $1.loss } / Float(tail.count)
      rows.append(("steps", String(last.step)))
      rows.append(("tokens", String(last.tokens)))
      rows.append(("loss at the start", String(format: "%.4f", metrics[0].loss)))
      rows.append(("loss at the end (mean of \(tail.count) steps)", String(format: "%.4f", loss)))
      rows.append(("speed", "\(Int(last.tokensPerSecond)) tokens a second"))
      rows.append(("time", "\(Int(last.seconds.rounded())) s"))
      rows.append(("peak memory", String(format: "%.2f GB", Double(metrics.map(\.peakBytes).max() ?? 0) / 1e9)))
    }
    if let loss = manifest.validationLoss {
      rows.append(("validation loss of these weights (step \(manifest.step))", String(format: "%.4f", loss)))
    }
    if rows.isEmpty, figures.isEmpty { return "" }
    let more = figures.isEmpty ? "" : "\n\n" + figures.map { "- \(Self.plain($0))" }.joined(separator: "\n")
    return "## Figures\n\n" + Self.table(rows) + more
  }

  private static func table(_ rows: [(String, String)]) -> String {
    (["| | |", "| --- | --- |"] + rows.map { "| \($0) | \($1) |" }).joined(separator: "\n")
  }
}
