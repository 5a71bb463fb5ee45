import Foundation
import LadderBackbone
import LadderCore
import LadderData
import LadderTrain

/// An accuracy study's folder:
///
///     OUT/study.json, model.json                what is run, and on which model
///     OUT/data/TASK.train.jsonl, .dev.jsonl     the samples, once limited and put into form
///     OUT/data/TASK.train.source, .dev.source   of which files' contents
///     OUT/runs/TASK/METHOD/seed-S/              the runs' folders
///     OUT/results/TASK/METHOD/…                 one file a finished measurement: none is made twice
///     OUT/table.md, table.json, report.html     the findings
struct StudyFolder: Sendable {
  let path: String

  func data(_ task: StudyConfiguration.Task, _ split: String) -> String { "\(path)/data/\(task.name).\(split).jsonl" }

  func run(_ task: String, _ method: String, _ name: String) -> RunDirectory {
    RunDirectory("\(path)/runs/\(task)/\(method)/\(name)")
  }

  func result(_ task: String, _ method: String, _ name: String) -> String {
    "\(path)/results/\(task)/\(method)/\(name).json"
  }

  func hasResult(_ task: String, _ method: String, _ name: String) -> Bool {
    FileManager.default.fileExists(atPath: result(task, method, name))
  }

  func predictions(_ task: String, _ method: String, _ name: String) -> String {
    "\(path)/results/\(task)/\(method)/\(name).predictions.jsonl"
  }

  // MARK: - The study that it holds

  /// More seeds, tasks or methods go on with what is there; a changed one would mix two studies. What has not begun may
  /// change, and what has is remembered even where this configuration leaves it out.
  func claim(for configuration: StudyConfiguration) throws {
    try DurableFile.makeFolder(path + "/data")
    var claim = configuration
    if let old = try held() {
      let begun = old.methods.filter { method in old.tasks.contains { hasBegun("\($0.name)/\(method.name)") } }
      for before in begun {
        guard let now = configuration.methods.first(where: { $0.name == before.name }) else {
          claim.methods.append(before)
          continue
        }
        if now != before { throw changed(before.name) }
      }
      let kept = configuration.methods.filter(begun.contains)
      for before in old.tasks where hasBegun(before.name) {
        guard old.options == configuration.options, old.cachesEachRun == configuration.cachesEachRun else {
          throw changed(before.name)
        }
        guard let index = configuration.tasks.firstIndex(where: { $0.name == before.name }) else {
          claim.tasks.append(before)
          continue
        }
        guard before.isLike(configuration.tasks[index], for: kept) else { throw changed(before.name) }
        let absent = before.methodOptions.filter { name, _ in !configuration.methods.contains { $0.name == name } }
        claim.tasks[index].methodOptions.merge(absent) { now, _ in now }
      }
    }
    for task in configuration.tasks where !hasBegun(task.name) {
      for split in ["train", "dev"] { try? FileManager.default.removeItem(atPath: data(task, split)) }
    }
    try write(claim, to: studyPath)
  }

  /// The folder's studies are of one model.
  /// - Throws: `usage` where it holds another's.
  func claim(model path: String) throws {
    let fingerprint = try GGUFFile(path: path).fingerprint().text, claimPath = self.path + "/model.json"
    if hasBegun(""), let other: String = DurableFile.value(claimPath), other != fingerprint {
      throw LadderError(
        .usage,
        "\(self.path) holds a study of another model (fingerprint \(other), and \(path) has \(fingerprint)); take another "
          + "`out`")
    }
    try DurableFile.makeFolder(self.path)
    try write(fingerprint, to: claimPath)
  }

  private var studyPath: String { path + "/study.json" }

  /// - Throws: `data` where something was run and what cannot be told.
  private func held() throws -> StudyConfiguration? {
    guard FileManager.default.fileExists(atPath: studyPath) else { return nil }
    do {
      return try JSONDecoder().decode(StudyConfiguration.self, from: try DurableFile.read(studyPath))
    } catch {
      guard hasBegun("") else { return nil }
      let reason = (error as? LadderError)?.message ?? "it is not a study's settings"
      throw LadderError(.data, "\(studyPath) cannot be read: \(reason); take another `out`")
    }
  }

  /// Whether anything of a task, or of `task/method`, was run in the folder.
  private func hasBegun(_ name: String) -> Bool {
    ["runs", "results"].contains { FileManager.default.fileExists(atPath: "\(path)/\($0)/\(name)") }
  }

  /// Whether anything was learned of a task, in a run or before its end.
  private func hasLearned(_ task: String) -> Bool {
    func folders(_ path: String) -> [String] { (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? [] }
    if folders("\(path)/results/\(task)").contains(where: { $0 != "base" }) { return true }
    return folders("\(path)/runs/\(task)").contains { method in
      folders("\(path)/runs/\(task)/\(method)").contains {
        self.run(task, method, $0).holdsWork
      }
    }
  }

  private func changed(_ name: String) -> LadderError {
    LadderError(
      .usage, "\(path) holds a study in which \(name) had other settings; take another `out`, or another name")
  }

  // MARK: - Files

  private func sourcePath(_ task: StudyConfiguration.Task, _ split: String) -> String {
    "\(path)/data/\(task.name).\(split).source"
  }

  /// Writes a task's samples, limited and in form, unless they are there.
  /// - Throws: `usage` where they are there and the file they were made of has changed since, but for samples to learn
  ///   from of which nothing was learned yet: those are written anew.
  func writeData(_ task: StudyConfiguration.Task) throws {
    for (split, source, limit) in [("train", task.train, task.trainLimit), ("dev", task.dev, task.devLimit)] {
      let target = data(task, split), isThere = FileManager.default.fileExists(atPath: target)
      // A study goes on without the files that its samples came from.
      if isThere, !FileManager.default.fileExists(atPath: source) { continue }
      let contents = try SHA256.hexadecimal(ofFile: source)
      let known: String? = isThere ? DurableFile.value(sourcePath(task, split)) : nil
      if let known, known != contents {
        guard split == "train" ? !hasLearned(task.name) : !hasBegun(task.name) else {
          throw LadderError(
            .usage,
            "\(path) holds results on other contents of \(source); take another `out`, or another name for the task")
        }
      } else if isThere {
        try write(contents, to: sourcePath(task, split))
        continue
      }
      var lines: [Data] = []
      try DataFile(source).forEach(limit: limit ?? .max) { record in
        // A line that is one already is taken as it stands.
        if task.template == nil, !record.json.contains(UInt8(ascii: "\n")) {
          return lines.append(record.json + Data("\n".utf8))
        }
        guard let object = try? JSONSerialization.jsonObject(with: record.json) as? [String: Any] else {
          throw LadderError(.data, "\(record.place): this is not a JSON object")
        }
        let sample = try task.template?.filled(object, place: record.place) ?? object
        lines.append(
          try JSONSerialization.data(withJSONObject: sample, options: [.sortedKeys, .withoutEscapingSlashes])
            + Data("\n".utf8))
      }
      try DurableFile.write(target, lines)
      try write(contents, to: sourcePath(task, split))
    }
  }

  func write(_ value: some Encodable, to path: String) throws {
    try DurableFile.makeFolder((path as NSString).deletingLastPathComponent)
    try DurableFile.write(path, json: value)
  }
}
