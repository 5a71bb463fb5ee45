import Foundation
import LadderBackbone
import LadderCore
import TestModels
import Testing

/// A model in several files is one model, from whichever of them.
@Suite(.serialized) struct SplitModelTests {
  let folder: TemporaryFolder
  let whole: String

  init() throws {
    folder = try TemporaryFolder()
    whole = try folder.model("whole.gguf")
  }

  private func split(_ counts: [Int], _ name: String = "model") throws -> [String] {
    try SplitModelFiles.write(whole, counts, to: folder.file(name))
  }

  private func refusal(_ path: String) -> LadderError? {
    #expect(throws: LadderError.self) { try GGUFFile(path: path) }
  }

  private var tensors: Int { get throws { try GGUFFile(path: whole).tensors.count } }

  @Test func everyFileLeadsToAll() throws {
    let one = try GGUFFile(path: whole), paths = try split([10, 1, one.tensors.count - 11])
    for path in paths {
      let file = try GGUFFile(path: path)
      #expect(file.path == paths[0] && file.parts == paths)
      #expect(file.tensors.map(\.name) == one.tensors.map(\.name))
      #expect(file.tensors.map(\.bytes) == one.tensors.map(\.bytes))
      #expect(file.metadata["llama.block_count"]?.description == one.metadata["llama.block_count"]?.description)
      #expect(try file.fingerprint() == one.fingerprint())
      for (mine, theirs) in zip(file.tensors, one.tensors) {
        #expect(try file.values(of: mine) == one.values(of: theirs))
      }
    }
  }

  @Test func theFirstFileMayHoldNoTensor() throws {
    let paths = try split([0, try tensors])
    let one = try Backbone(path: whole, threads: 1, device: "CPU")
    for path in paths {
      let backbone = try Backbone(path: path, threads: 1, device: "CPU")
      #expect(backbone.weightsBytes == one.weightsBytes && backbone.blocks == one.blocks)
      #expect(backbone.fingerprint == one.fingerprint && backbone.path == paths[0])
    }
  }

  @Test func aMissingFileIsNamed() throws {
    let paths = try split([3, 3, try tensors - 6])
    for (lost, given) in [(1, 0), (0, 2), (2, 1)] {
      let aside = folder.file("aside")
      try FileManager.default.moveItem(atPath: paths[lost], toPath: aside)
      let error = refusal(paths[given])
      #expect(error?.kind == .missing && error?.message.contains(paths[lost]) == true, "\(error?.message ?? "")")
      try FileManager.default.moveItem(atPath: aside, toPath: paths[lost])
    }
  }

  @Test func filesThatDoNotBelongTogether() throws {
    let count = try tensors, paths = try split([3, count - 3]), other = try split([4, count - 4], "other")
    func replace(_ path: String, by source: String) throws {
      try FileManager.default.removeItem(atPath: path)
      try FileManager.default.copyItem(atPath: source, toPath: path)
    }
    let renamed = folder.file("renamed.gguf")
    try FileManager.default.copyItem(atPath: paths[0], toPath: renamed)
    #expect(refusal(renamed)?.message.contains("-00001-of-00002.gguf") == true)
    try replace(paths[1], by: other[1])
    #expect(refusal(paths[0])?.message.contains("hold \(count - 1) tensors and should hold \(count)") == true)
    try replace(paths[1], by: paths[0])
    #expect(refusal(paths[0])?.message.contains("is not file 2 of 2") == true)
    try replace(paths[1], by: try split([2, count - 2], "third")[1])
    #expect(refusal(paths[0])?.message.contains("so does another") == true)
    let cut = try Data(contentsOf: URL(fileURLWithPath: other[1])).dropLast(64)
    try cut.write(to: URL(fileURLWithPath: other[1]))
    #expect(refusal(other[0])?.message.contains("\(other[1]) is cut short") == true)
  }
}
