import Foundation
import LadderCompute
import TestModels
import Testing

/// Whole runs of the real command, and real signals sent to them.
@Suite(.serialized) struct TrainingRunTests {
  let folder: TemporaryFolder
  let model: String
  let data: String

  init() throws {
    folder = try TemporaryFolder()
    model = try folder.model()
    data = try folder.write("train.jsonl", BadInputTests.lines(96))
  }

  private func arguments(_ run: String, _ more: [String] = []) -> [String] {
    [
      "train", "--model", model, "--data", data, "--out", folder.file(run), "--device", testDevice, "--batch-size", "4",
      "--epochs", "4", "--learning-rate", "2e-3",
    ]
      + more
  }

  @Test func aRunKilledMidwayAndResumedEndsWithTheSameWeights() throws {
    let whole = try Command.run(arguments("whole"), in: folder)
    #expect(whole.status == 0, "\(whole.errors)")
    // Killed twice, each time some steps past a checkpoint; the checkpoint is at every seventh step.
    for target in [10, 40] {
      let resume = target == 10 ? [] : ["--resume"]
      let running = try Command.start(arguments("cut", ["--checkpoint-every", "7"] + resume), in: folder)
      running.signal(SIGKILL) { folder.steps("cut") >= target }
      #expect(running.wait().status == SIGKILL)
      #expect(!FileManager.default.fileExists(atPath: folder.file("cut/ladder.safetensors")))
    }
    let resumed = try Command.run(arguments("cut", ["--checkpoint-every", "7", "--resume"]), in: folder)
    #expect(resumed.status == 0 && resumed.errors.contains("resuming after step"), "\(resumed.errors)")
    #expect(try folder.weights("cut") == folder.weights("whole"))
    #expect(folder.steps("cut") == 96)
  }

  @Test(arguments: [SIGINT, SIGTERM, SIGHUP]) func aSignalSavesAndExitsWith130(_ signal: Int32) throws {
    let running = try Command.start(arguments("cut"), in: folder)
    running.signal(signal) { folder.steps("cut") >= 8 }
    let stopped = running.wait()
    #expect(stopped.status == 130)
    #expect(stopped.lastError.contains("--resume"))
    let usable = try Command.run(
      ["eval", "--model", model, "--adapter", folder.file("cut"), "--data", data, "--device", testDevice, "--json"],
      in: folder)
    #expect(usable.status == 0, "\(usable.errors)")
    #expect(try Command.run(arguments("cut", ["--resume"]), in: folder).status == 0)
    #expect(try Command.run(arguments("whole"), in: folder).status == 0)
    #expect(try folder.weights("cut") == folder.weights("whole"))
  }

  @Test func anXLadderTrainsAndIsShown() throws {
    let result = try Command.run(
      arguments(
        "run",
        ["--steps", "3", "--method", "xladder", "--passes", "3", "--tap-statistics", "answers", "--output-bias", "on"]),
      in: folder)
    #expect(result.status == 0, "\(result.errors)")
    let shown = try Command.run(["inspect", folder.file("run")], in: folder)
    #expect(shown.output.contains("xladder") && shown.output.contains("3 layers of width"), "\(shown.output)")
    #expect(
      try Command.run(
        [
          "generate", "--model", model, "--adapter", folder.file("run"), "--prompt", "abc", "--max-tokens", "3",
          "--device", testDevice,
        ], in: folder
      )
      .status == 0)
    for wrong in [
      ["--method", "lst", "--passes", "2"], ["--method", "xladder", "--passes", "1"], ["--passes", "0"],
      ["--tap-statistics", "rows"],
      ["--output-bias", "yes"],
    ] {
      #expect(try Command.run(arguments("wrong", wrong), in: folder).status == 64)
    }
  }

  @Test func metricsHoldTheContractsKeys() throws {
    #expect(try Command.run(arguments("run", ["--steps", "3"]), in: folder).status == 0)
    let lines = try String(contentsOfFile: folder.file("run/metrics.jsonl"), encoding: .utf8).split(separator: "\n")
    #expect(lines.count == 3)
    let last = try #require(try JSONSerialization.jsonObject(with: Data((lines.last ?? "").utf8)) as? [String: Any])
    for key in ["step", "epoch", "loss", "learning_rate", "tokens", "tokens_per_second", "peak_bytes", "gradient_norm"]
    {
      #expect(last[key] is NSNumber, "\(key)")
    }
  }

  @Test func evaluationPrintsOneJSONObject() throws {
    #expect(try Command.run(arguments("run", ["--steps", "2"]), in: folder).status == 0)
    let result = try Command.run(
      ["eval", "--model", model, "--adapter", folder.file("run"), "--data", data, "--json", "--device", testDevice],
      in: folder)
    #expect(result.status == 0 && result.output.split(separator: "\n").count == 1)
    for key in ["metric", "task"] { #expect(result.json[key] is String, "\(key)") }
    for key in ["value", "examples", "loss", "tokens_per_second"] { #expect(result.json[key] is NSNumber, "\(key)") }
    #expect(
      result.json["metric"] as? String == "loss" && result.json["task"] as? String == "train"
        && result.json["examples"] as? Int == 96)
  }

  @Test func theConfigurationFileFillsWhatTheCommandLineLeavesOpen() throws {
    let file = try folder.write(
      "options.yaml", "steps: 2\nlearning_rate: 7e-4\nrungs: [1, 3]\nexact-gradient: yes\nseed: 9\n")
    let result = try Command.run(
      [
        "train", "--config", file, "--model", model, "--data", data, "--out", folder.file("run"), "--device",
        testDevice,
        "--seed=4",
      ], in: folder)
    #expect(result.status == 0, "\(result.errors)")
    let manifest =
      try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: folder.file("run/ladder.json"))))
      as? [String: Any]
    let configuration = try #require(manifest?["configuration"] as? [String: Any])
    #expect(configuration["steps"] as? Int == 2)
    #expect(configuration["seed"] as? Int == 4)
    #expect(configuration["filtersGradient"] as? Bool == false)
    #expect(abs((configuration["learningRate"] as? Double ?? 0) - 7e-4) < 1e-9)
    #expect(manifest?["rungs"] as? [Int] == [1, 3])
  }

  @Test func validationKeepsTheBestState() throws {
    let valid = try folder.write("valid.jsonl", BadInputTests.lines(12))
    let result = try Command.run(
      arguments("run", ["--valid", valid, "--steps", "20", "--validate-every", "5"]), in: folder)
    #expect(
      result.status == 0 && result.errors.components(separatedBy: "validation loss").count == 5, "\(result.errors)")
    let shown = try Command.run(["inspect", folder.file("run")], in: folder)
    #expect(shown.status == 0 && shown.output.contains("validation loss") && shown.output.contains("lst"))
  }

  @Test func generationFollowsItsSeed() throws {
    func generate(_ more: [String]) throws -> Command.Result {
      try Command.run(
        ["generate", "--model", model, "--prompt", "abc", "--max-tokens", "24", "--device", testDevice] + more,
        in: folder)
    }
    let one = try generate(["--temperature", "1", "--seed", "1"]),
      again = try generate(["--temperature", "1", "--seed", "1"])
    let other = try generate(["--temperature", "1", "--seed", "2"])
    #expect(one.status == 0 && one.output == again.output && one.output != other.output, "\(one.errors)")
    #expect(try generate(["--top-p", "0"]).status == 64)
  }

  @Test func benchPrintsTheContractsKeys() throws {
    let result = try Command.run(
      [
        "bench", "--model", model, "--max-length", "64", "--steps", "2", "--decode", "4", "--device", testDevice,
        "--operations", "--json",
      ],
      in: folder)
    #expect(result.status == 0 && result.output.split(separator: "\n").count == 1, "\(result.errors)")
    for key in [
      "engine_tokens_per_second", "engine_logits_tokens_per_second", "train_tokens_per_second",
      "cached_tokens_per_second",
      "head_share", "decode_base_tokens_per_second", "decode_ladder_tokens_per_second",
      "peak_bytes", "weights_bytes",
    ] { #expect(result.json[key] is NSNumber, "\(key)") }
    // The head's answers are kept by the scan, which is the processor's.
    #expect(testDevice != "CPU" || result.json["cached_head_tokens_per_second"] is NSNumber)
    let operations = try #require(result.json["operations"] as? [[String: Any]])
    for (part, name) in [("model", "RMS_NORM"), ("training", "OPT_STEP_ADAMW")] {
      #expect(
        operations.contains {
          $0["part"] as? String == part && ($0["operation"] as? String)?.hasPrefix(name) == true
            && $0["device"] as? String == testDevice && ($0["times"] as? Int ?? 0) > 0
        }, "\(name) of the \(part)")
    }
  }

  @Test func planSaysWhatFits() throws {
    let result = try Command.run(["plan", "--shape", "qwen2.5-7b", "--memory", "12GB", "--no-time"], in: folder)
    #expect(
      result.status == 0 && result.output.contains("lst") && result.output.contains("xladder")
        && result.output.contains("qlora"), "\(result.errors)")
    let json = try Command.run(["plan", "--model", model, "--memory", "12GB", "--no-time", "--json"], in: folder)
    #expect((json.json["rows"] as? [[String: Any]])?.first?["fits"] as? Bool == true, "\(json.output)")
    #expect(try Command.run(["plan", "--shape", "gpt-9"], in: folder).status == 64)
    #expect(try Command.run(["plan", "--model", model, "--memory", "lots"], in: folder).status == 64)
    let measured = try Command.run(
      ["plan", "--model", model, "--measure", "--max-length", "64", "--device", testDevice, "--json"], in: folder)
    #expect(measured.status == 0 && measured.json["peak_bytes"] is NSNumber, "\(measured.errors)")
    let serving = try Command.run(["plan", "--model", model, "--serve", "--texts", "2", "--json"], in: folder)
    #expect(serving.status == 0 && serving.json["contexts"] is NSNumber, "\(serving.errors)")
    #expect(try Command.run(["plan", "--model", model, "--serve", "--ladders", "nowhere"], in: folder).status == 66)
    #expect(try Command.run(["plan", "--shape", "qwen2.5-7b", "--serve"], in: folder).status == 0)
    for wrong in [["--model", model, "--texts", "3"], ["--shape", "qwen2.5-7b", "--serve", "--ladders", folder.path]] {
      #expect(try Command.run(["plan"] + wrong, in: folder).status == 64)
    }
  }

  @Test func memoryIsDrawnOverLengths() throws {
    let plot = folder.file("memory.svg")
    let result = try Command.run(
      ["bench", "--model", model, "--lengths", "64,128,192", "--device", testDevice, "--plot", plot, "--json"],
      in: folder)
    #expect(result.status == 0 && (result.json["points"] as? [Any])?.count == 3, "\(result.errors)")
    #expect(try String(contentsOfFile: plot, encoding: .utf8).contains("<svg"))
  }

  @Test func inspectShowsAModel() throws {
    let result = try Command.run(["inspect", model, "--tensors"], in: folder)
    #expect(result.status == 0)
    for word in ["tiny-qwen2", "qwen2.block_count", "token_embd.weight", "Q8_0"] {
      #expect(result.output.contains(word), "\(word)")
    }
  }

  @Test(arguments: ["bash", "zsh", "fish"]) func shellCompletions(_ shell: String) throws {
    let result = try Command.run(["--generate-completion-script", shell], in: folder)
    #expect(result.status == 0 && result.output.contains("learning-rate"))
  }

  @Test func helpTeaches() throws {
    let result = try Command.run(["--help"], in: folder)
    for word in ["ladder train --model", "Exit status", "prompt"] { #expect(result.output.contains(word), "\(word)") }
    for command in ["train", "eval", "generate", "inspect"] {
      #expect(try Command.run([command, "--help"], in: folder).status == 0)
    }
  }
}
