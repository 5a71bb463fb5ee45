import Foundation
import TestModels
import Testing

/// Studies with the real command, each run a real process.
@Suite(.serialized) struct StudyTests {
  let folder: TemporaryFolder
  let model: String

  init() throws {
    folder = try TemporaryFolder()
    model = try folder.model()
  }

  private static let yaml = """
    seeds: [0, 1]
    options: {rungs: "1,3", reduction: 2, batch-size: 4, device: CPU}
    tasks:
      - name: parity
        train: TRAIN
        dev: DEV
        metric: choice
        dev-limit: 6
        template: {prompt: "{number} is", completion: " {label}", choices: [" even", " odd"]}
    """

  private func configuration(_ name: String = "study.yaml", _ change: (String) -> String = { $0 }) throws -> String {
    let lines = (0..<24).map { "{\"number\": \($0), \"label\": \"\($0 % 2 == 0 ? "even" : "odd")\"}\n" }.joined()
    let train = try folder.write("raw.train.jsonl", lines), dev = try folder.write("raw.dev.jsonl", lines)
    return try folder.write(
      name, change(Self.yaml.replacingOccurrences(of: "TRAIN", with: train).replacingOccurrences(of: "DEV", with: dev)))
  }

  private func arguments(_ configuration: String, _ out: String) -> [String] {
    ["study", "accuracy", "--config", configuration, "--model", model, "--out", folder.file(out)]
  }

  private func modified(_ path: String) throws -> Date? {
    try FileManager.default.attributesOfItem(atPath: path)[.modificationDate] as? Date
  }

  @Test func aStudyStoppedAndRunAgainWritesTheWholeTable() throws {
    let configuration = try configuration()
    let running = try Command.start(arguments(configuration, "study"), in: folder)
    running.signal(SIGINT) {
      FileManager.default.fileExists(atPath: folder.file("study/results/parity/lst/seed-0.json"))
    }
    let stopped = running.wait()
    #expect(stopped.status == 130 || stopped.status == 0, "\(stopped.errors)")
    let first = folder.file("study/results/parity/lst/seed-0.json")
    let before = try modified(first)

    let result = try Command.run(arguments(configuration, "study") + ["--json"], in: folder)
    #expect(result.status == 0, "\(result.errors)")
    #expect(try modified(first) == before, "what is done is not done again")
    let rows = result.json["rows"] as? [[String: Any]] ?? []
    #expect(rows.map { $0["method"] as? String } == ["base", "lst", "xladder"])
    for row in rows {
      #expect(row["examples"] as? Int == 6 && row["metric"] as? String == "choice")
      #expect((row["values"] as? [Double])?.count == (row["method"] as? String == "base" ? 1 : 2))
    }
    let parameters = rows.dropFirst().compactMap { $0["parameters"] as? Int }
    #expect(parameters.count == 2 && abs(parameters[0] - parameters[1]) * 100 <= parameters[0])
    let markdown = try String(contentsOfFile: folder.file("study/table.md"), encoding: .utf8)
    #expect(markdown.split(separator: "\n").count == 5 && markdown.contains("| parity | xladder |"))
    let html = try String(contentsOfFile: folder.file("study/report.html"), encoding: .utf8)
    #expect(html.components(separatedBy: "<svg").count == 3 && !html.contains("http://localhost"))
  }

  /// Each method's loss, memory and time; a method that is dominated is on no frontier.
  @Test func theFrontierHasEveryMethod() throws {
    let configuration = try configuration {
      $0.replacingOccurrences(of: "rungs: \"1,3\", reduction: 2, ", with: "").replacingOccurrences(
        of: "[0, 1]", with: "[0]")
    }
    let arguments = [
      "study", "frontier", "--config", configuration, "--model", model, "--out", folder.file("frontier"),
    ]
    let result = try Command.run(arguments + ["--json"], in: folder)
    #expect(result.status == 0, "\(result.errors)")
    let points =
      result.json["points"] as? [[String: Any]] ?? []
    #expect(
      points.compactMap { $0["method"] as? String } == ["lst", "lst-3-epochs", "xladder", "top-1", "top-2", "qlora"])
    #expect(points.allSatisfy { ($0["peak_bytes"] as? Int ?? 0) > 1_000_000 && ($0["seconds"] as? Double ?? 0) > 0 })
    #expect(points.contains { $0["on_memory_frontier"] as? Bool == true })
    let least = points.min { ($0["loss"] as? Double ?? 0) < ($1["loss"] as? Double ?? 0) }
    #expect(least?["on_memory_frontier"] as? Bool == true && least?["on_time_frontier"] as? Bool == true)
    for name in ["memory", "seconds"] {
      let svg = try String(contentsOfFile: folder.file("frontier/parity-\(name).svg"), encoding: .utf8)
      #expect(svg.components(separatedBy: "<circle").count == 7 && svg.contains(">top-2</text>"))
    }
    // A run's own cache goes with it.
    let files = FileManager.default.enumerator(atPath: folder.file("frontier"))?.compactMap { $0 as? String } ?? []
    #expect(!files.isEmpty && !files.contains { $0.contains("activations") || $0.hasSuffix(".cache") })
  }

  @Test func aTaskHasOptionsForOneMethodAlone() throws {
    let configuration = try configuration {
      $0.replacingOccurrences(of: "rungs: \"1,3\", reduction: 2, ", with: "").replacingOccurrences(
        of: "[0, 1]", with: "[0]") + """

              method-options: {lst: {rungs: "1,3", reduction: 2}, qlora: {rank: 2}}
          cost: false
          base: false
          methods:
            - {name: lst}
            - {name: qlora, options: {method: qlora, rank: 4}}
          """
    }
    let result = try Command.run(arguments(configuration, "methods") + ["--json"], in: folder)
    #expect(result.status == 0, "\(result.errors)")
    let rows = result.json["rows"] as? [[String: Any]] ?? []
    #expect(rows.compactMap { $0["options"] as? String } == ["--reduction 2 --rungs 1,3", "--method qlora --rank 2"])
  }

  @Test func aMethodJoinsAFinishedStudyAndAChangedOneDoesNot() throws {
    func run(_ options: String, _ methods: String) throws -> Command.Result {
      let configuration = try configuration {
        $0.replacingOccurrences(of: "[0, 1]", with: "[0]").replacingOccurrences(
          of: "rungs: \"1,3\", reduction: 2, ", with: "")
          + "\n    method-options: {\(options)}\ncost: false\nbase: false\nmethods: [\(methods)]\n"
      }
      return try Command.run(arguments(configuration, "joined") + ["--json"], in: folder)
    }
    let own = "lst: {rungs: \"1,3\", reduction: 2}", result = folder.file("joined/results/parity/lst/seed-0.json")
    let alone = try run(own, "{name: lst}")
    #expect(alone.status == 0, "\(alone.errors)")
    let before = try modified(result)
    let joined = try run(own + ", qlora: {rank: 2}", "{name: lst}, {name: qlora, options: {method: qlora}}")
    #expect(joined.status == 0 && (joined.json["rows"] as? [Any])?.count == 2, "\(joined.errors)")
    #expect(try modified(result) == before, "what is done is not done again")
    let changed = try run("lst: {rungs: \"1,3\", reduction: 4}", "{name: lst}")
    #expect(changed.status == 64 && changed.lastError.contains("other settings"), "\(changed.errors)")
    // A method that a later study leaves out is remembered.
    let other = try run("qlora: {rank: 2}", "{name: qlora, options: {method: qlora}}")
    #expect(other.status == 0, "\(other.errors)")
    let again = try run("lst: {rungs: \"1,3\", reduction: 4}", "{name: lst}")
    #expect(again.status == 64 && again.lastError.contains("other settings"), "\(again.errors)")
  }

  @Test func aStudyThatNeverBeganMayChange() throws {
    let missing = try configuration("missing.yaml") { $0.replacingOccurrences(of: "train: ", with: "train: no-") }
    #expect(try Command.run(arguments(missing, "fresh"), in: folder).status == 66)
    let right = try Command.run(
      arguments(
        try configuration { $0.replacingOccurrences(of: "[0, 1]", with: "[0]") + "\ncost: false\nbase: false\n" },
        "fresh"), in: folder)
    #expect(right.status == 0, "\(right.errors)")
  }

  @Test func samplesThatChangeAfterwardsAreNotMixed() throws {
    let yaml = try configuration { $0.replacingOccurrences(of: "[0, 1]", with: "[0]") + "\ncost: false\n" }
    let train = folder.file("raw.train.jsonl"), dev = folder.file("raw.dev.jsonl")
    let right = try String(contentsOfFile: train, encoding: .utf8)
    // The model alone is judged before anything is learned: what to learn from may still be mended.
    _ = try folder.write("raw.train.jsonl", right + "{\"number\": 1}\n")
    #expect(try Command.run(arguments(yaml, "changing"), in: folder).status == 65)
    _ = try folder.write("raw.train.jsonl", right)
    let done = try Command.run(arguments(yaml, "changing"), in: folder)
    #expect(done.status == 0, "\(done.errors)")
    for path in [train, dev] {
      _ = try folder.write((path as NSString).lastPathComponent, right + "{\"number\": 30, \"label\": \"even\"}\n")
      let changed = try Command.run(arguments(yaml, "changing"), in: folder)
      #expect(changed.status == 64 && changed.lastError.contains("other contents"), "\(changed.errors)")
      _ = try folder.write((path as NSString).lastPathComponent, right)
    }
    for path in [train, dev] { try FileManager.default.removeItem(atPath: path) }
    #expect(try Command.run(arguments(yaml, "changing"), in: folder).status == 0, "its samples are its own")
  }

  @Test func studiesThatCannotRunSayWhy() throws {
    for (name, change, status) in [
      ("misspelt", { $0.replacingOccurrences(of: "seeds", with: "sedes") }, 65),
      ("no task", { _ in "tasks: []\n" }, 64),
      ("own option", { $0.replacingOccurrences(of: "batch-size", with: "out") }, 64),
      ("field", { $0.replacingOccurrences(of: "{number}", with: "{n}") }, 65),
      ("bad option", { $0.replacingOccurrences(of: "rungs: \"1,3\"", with: "rungs: \"9\"") }, 64),
      ("no yaml", { _ in "a: [b" }, 65),
      ("no such method", { $0 + "\n    method-options: {lts: {reduction: 2}}" }, 64),
    ] as [(String, (String) -> String, Int32)] {
      let result = try Command.run(arguments(try configuration("\(name).yaml", change), name), in: folder)
      #expect(result.status == status, "\(name): \(result.errors)")
      #expect(result.lastError.hasPrefix("ladder: "), "\(result.errors)")
    }
    #expect(try Command.run(arguments(folder.file("none.yaml"), "x"), in: folder).status == 66)
  }

  @Test func theMemoryStudyMeasuresWhatFitsAndNamesWhatDoesNot() throws {
    let result = try Command.run(
      [
        "study", "memory", "--model", model, "--out", folder.file("memory"), "--lengths", "64,128,100000", "--batches",
        "1,2", "--batch-length", "32",
        "--rungs", "1,3", "--memory", "400MB", "--device", "CPU", "--json",
      ], in: folder)
    #expect(result.status == 0, "\(result.errors)")
    let rows = result.json["rows"] as? [[String: Any]] ?? []
    #expect(rows.count == 4 * 5)
    for row in rows {
      let isLong = row["length"] as? Int == 100000
      #expect((row["peak_bytes"] == nil) == isLong && (row["fits"] as? Bool) == !isLong, "\(row)")
    }
    #expect(FileManager.default.fileExists(atPath: folder.file("memory/memory-length.svg")))
  }

  @Test func theScalingStudyFitsBothMethods() throws {
    let lines = (0..<64).map { "{\"prompt\": \"item \($0 % 9) is\", \"completion\": \" \($0 % 9 * 3) units\"}\n" }
      .joined()
    let data = try folder.write("items.jsonl", lines)
    let arguments = [
      "study", "scaling", "--model", model, "--data", data, "--dev", data, "--out", folder.file("scaling"),
      "--reductions", "4,2", "--ranks", "2,4",
      "--budgets", "16,32,64", "--dev-limit", "16", "--device", "CPU", "--json",
    ]
    let result = try Command.run(arguments, in: folder)
    #expect(result.status == 0, "\(result.errors)")
    #expect((result.json["points"] as? [Any])?.count == 12 && (result.json["fits"] as? [String: Any])?.count == 2)
    let again = try Command.run(arguments, in: folder)
    #expect(again.output == result.output, "what is done is not done again")
    let iso = try Command.run(
      arguments.map { $0 == "4,2" ? "8,4,3,2" : $0 == "2,4" ? "1,2,3,4" : $0 } + ["--tflop", "0.0001,0.0002,0.0003"],
      in: folder)
    #expect(iso.status == 0 && (iso.json["points"] as? [Any])?.count == 24, "\(iso.errors)")
    #expect((iso.json["minima"] as? [Any])?.count == 6 && (iso.json["slopes"] as? [String: Any])?.count == 2)
    for budget in ["1000", "1e20", "-1", "x"] {
      let dear = try Command.run(
        arguments.map { $0 == "4,2" ? "8,4,3,2" : $0 == "2,4" ? "1,2,3,4" : $0 } + ["--tflop=\(budget)"], in: folder)
      #expect(dear.status == 64, "\(dear.errors)")
    }
    #expect(try Command.run(arguments + ["--tflop", "0.0001"], in: folder).status == 64, "too few sizes")
  }

  @Test func theDepthStudyPlotsEveryWayOfWriting() throws {
    let result = try Command.run(
      [
        "study", "depth", "--model", model, "--out", folder.file("depth"), "--deepest", "3", "--train-each", "6",
        "--dev-each", "2", "--epochs", "1",
        "--passes", "2", "--rungs", "1,3", "--device", "CPU", "--json",
      ], in: folder)
    #expect(result.status == 0, "\(result.errors)")
    let rows = result.json["rows"] as? [[String: Any]] ?? []
    #expect(rows.count == 6)
    for row in rows { #expect((row["accuracy"] as? [Double])?.count == 3) }
    let html = try String(contentsOfFile: folder.file("depth/depth.html"), encoding: .utf8)
    #expect(html.components(separatedBy: "<svg").count == 5)
  }

  @Test func theDepthStudyFollowsHops() throws {
    let arguments = [
      "study", "depth", "--model", model, "--out", folder.file("hops"), "--problems", "hops", "--train-each", "6",
      "--dev-each", "3", "--depths", "1,2", "--rungs", "1,3", "--device", "CPU", "--json",
    ]
    let result = try Command.run(arguments + ["--letters", "4"], in: folder)
    #expect(result.status == 0, "\(result.errors)")
    let rows = result.json["rows"] as? [[String: Any]] ?? []
    #expect(rows.map { $0["method"] as? String } == ["lst", "xladder-depth-1", "xladder-depth-2"])
    #expect(rows.allSatisfy { ($0["accuracy"] as? [Double])?.count == 2 && $0["written"] as? String == "none" })
    // What is judged was not learned from.
    let problems = try ["train", "dev"].map { split in
      Set(
        try [1, 2].flatMap { hops in
          try String(
            contentsOfFile: folder.file("hops/problems/hops-\(hops).circles-4.\(split).jsonl"), encoding: .utf8
          )
          .split(separator: "\n").map(String.init)
        })
    }
    #expect(problems[0].count == 12 && problems[1].count == 6 && problems[0].isDisjoint(with: problems[1]))
    let deep = try Command.run(arguments + ["--letters", "4", "--deepest", "3"], in: folder)
    #expect(deep.status == 64 && deep.errors.contains("backwards"), "\(deep.errors)")
  }
}
