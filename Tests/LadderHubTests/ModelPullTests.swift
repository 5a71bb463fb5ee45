import Foundation
import LadderCore
import LadderHub
import TestModels
import Testing

/// What is fetched from a hub on this machine, faults included.
@Suite(.serialized) struct ModelPullTests {
  let server: FakeHub
  let folder: TemporaryFolder
  let repository = "owner/model-GGUF"
  let data = FakeHub.bytes(300_000)

  init() throws {
    server = try FakeHub()
    folder = try TemporaryFolder()
    try server.add(repository, "README.md", Data("a model\n".utf8))
    try server.add(repository, "model-Q4_K_M.gguf", data)
    try server.add(repository, "model-Q8_0.gguf", FakeHub.bytes(400_000, seed: 2))
  }

  private final class Notes: @unchecked Sendable {
    private let lock = NSLock()
    private var texts: [String] = []
    var all: String { lock.withLock { texts.joined(separator: "\n") } }
    func add(_ event: HubEvent) { if case .note(let text) = event { lock.withLock { texts.append(text) } } }
  }

  private let notes = Notes()

  private func hub(_ more: [String: String] = [:], token: String? = nil) throws -> Hub {
    let variables = server.environment(cache: folder.file("cache"), token: token).merging(more) { $1 }
    return Hub(try HubEnvironment(variables), report: { [notes] in notes.add($0) })
  }

  private func pull(
    _ name: String = "hf:owner/model-GGUF", _ more: [String: String] = [:], token: String? = nil, refreshes: Bool = true
  ) async throws -> String {
    try await hub(more, token: token).model(try HubName(name), refreshes: refreshes)
  }

  private func refusal(
    _ name: String = "hf:owner/model-GGUF", _ more: [String: String] = [:], token: String? = nil
  ) async -> LadderError? {
    do { _ = try await pull(name, more, token: token) } catch { return error as? LadderError }
    return nil
  }

  private func contents(_ path: String) -> Data? { FileManager.default.contents(atPath: path) }
  private var downloads: [FakeHub.Request] { server.requests.filter { $0.host == "cdn" } }
  private func left() -> [String] {
    (FileManager.default.subpaths(atPath: folder.file("cache")) ?? []).filter { $0.hasSuffix(".incomplete") }
  }

  // MARK: - What is fetched

  @Test func theChosenFileAloneComesIntoTheHubsLayout() async throws {
    let path = try await pull()
    #expect(contents(path) == data && path.hasSuffix("/model-Q4_K_M.gguf"))
    #expect(downloads.count == 1)
    let names = Set(FileManager.default.subpaths(atPath: folder.file("cache/models--owner--model-GGUF")) ?? [])
    let commit = try String(
      contentsOfFile: folder.file("cache/models--owner--model-GGUF/refs/main"), encoding: .utf8)
    #expect(commit.count == 40)
    #expect(names.filter { $0.hasPrefix("blobs/") }.count == 1)
    #expect(names.contains("snapshots/\(commit)/model-Q4_K_M.gguf"))
    let link = try FileManager.default.destinationOfSymbolicLink(atPath: path)
    #expect(link.hasPrefix("../../blobs/") && left().isEmpty)
    // Once more fetches nothing; another choice comes beside it.
    server.forgetRequests()
    #expect(try await pull() == path && downloads.isEmpty)
    #expect(try await pull("hf:owner/model-GGUF:Q8_0").hasSuffix("Q8_0.gguf"))
    #expect(downloads.count == 1)
  }

  @Test func aModelInSeveralFilesComesWhole() async throws {
    let parts = (1...3).map { FakeHub.bytes(50_000, seed: UInt64($0)) }
    for (index, part) in parts.enumerated() {
      try server.add("owner/split", "BF16/model-BF16-0000\(index + 1)-of-00003.gguf", part)
    }
    let path = try await pull("hf:owner/split:bf16")
    #expect(path.hasSuffix("/BF16/model-BF16-00001-of-00003.gguf"))
    for (index, part) in parts.enumerated() {
      #expect(contents(path.replacingOccurrences(of: "00001-of", with: "0000\(index + 1)-of")) == part)
    }
  }

  @Test func whatIsInTheCacheNeedsNoHub() async throws {
    let path = try await pull()
    server.forgetRequests()
    let away = ["HF_ENDPOINT": "http://127.0.0.1:9"]
    #expect(try await pull("hf:owner/model-GGUF", away, refreshes: false) == path)
    #expect(try await pull("hf:owner/model-GGUF:Q4_K_M", ["HF_HUB_OFFLINE": "1"]) == path)
    #expect(server.requests.isEmpty)
    let missing = await refusal("hf:owner/model-GGUF:Q8_0", ["HF_HUB_OFFLINE": "1"])
    #expect(missing?.kind == .missing && missing?.message.contains("HF_HUB_OFFLINE") == true)
    // llama.cpp's own folder is looked into too.
    let moved = folder.file("llama")
    try FileManager.default.moveItem(atPath: folder.file("cache"), toPath: moved)
    let found = try await pull("hf:owner/model-GGUF", away.merging(["LLAMA_CACHE": moved]) { $1 }, refreshes: false)
    #expect(found.hasPrefix(moved) && contents(found) == data)
  }

  @Test func aNewerCommitIsFetchedWhereItIsAskedFor() async throws {
    let old = try await pull()
    let newer = FakeHub.bytes(1000, seed: 9)
    try server.add(repository, "model-Q4_K_M.gguf", newer)
    #expect(try await pull(refreshes: false) == old)
    let new = try await pull()
    #expect(contents(new) == newer && contents(old) == data)
    #expect(try await pull(refreshes: false) == new)
  }

  // MARK: - Faults

  @Test func aCutConnectionGoesOnWhereItEnded() async throws {
    try server.setFaults(
      #"{"match": "/cdn/", "do": "cut", "after": 100000}"#, #"{"match": "/cdn/", "do": "drop"}"#)
    #expect(contents(try await pull()) == data)
    let ranges = downloads.map(\.range)
    #expect(ranges.count == 3 && ranges[0] == nil && ranges[1]?.hasPrefix("bytes=") == true && ranges[1] == ranges[2])
    #expect(notes.all.contains("again in 1 s"))
  }

  @Test func aServerThatKnowsNoRangesIsReadFromTheStart() async throws {
    try server.setFaults(#"{"match": "/cdn/", "do": "cut", "after": 100000}"#, #"{"match": "/cdn/", "do": "whole"}"#)
    #expect(contents(try await pull()) == data)
  }

  @Test func whatAnEarlierProcessLeftIsGoneOnWith() async throws {
    try server.setFaults(#"{"match": "/cdn/", "do": "slow", "pause": 0.05}"#)
    let task = Task { try await pull() }
    while left().isEmpty || !notes.all.isEmpty { try await Task.sleep(for: .milliseconds(20)) }
    try await Task.sleep(for: .milliseconds(300))
    task.cancel()
    let error = await task.result
    #expect(throws: LadderError.self) { try error.get() }
    if case .failure(let error) = error { #expect((error as? LadderError)?.kind == .interrupted) }
    #expect(left().count == 1)
    server.forgetRequests()
    #expect(contents(try await pull()) == data)
    #expect(downloads.count == 1 && downloads[0].range != nil && left().isEmpty)
  }

  @Test func aWrongChecksumIsNeverKept() async throws {
    try server.setFaults(#"{"match": "/cdn/", "do": "corrupt"}"#)
    #expect(contents(try await pull()) == data)
    #expect(notes.all.contains("wrong checksum"))
    try server.setFaults(#"{"match": "/cdn/", "do": "corrupt", "times": 2}"#)
    let error = await refusal("hf:owner/model-GGUF:Q8_0")
    #expect(error?.kind == .data && error?.message.contains("checksum") == true)
    #expect(left().isEmpty)
    // Nor what an earlier try left.
    let path = try await pull("hf:owner/model-GGUF:Q8_0")
    let blob = URL(fileURLWithPath: path).resolvingSymlinksInPath().path
    try Data(count: 1000).write(to: URL(fileURLWithPath: blob + ".incomplete"))
    try FileManager.default.removeItem(atPath: blob)
    #expect(contents(try await pull("hf:owner/model-GGUF:Q8_0")) == FakeHub.bytes(400_000, seed: 2))
  }

  @Test func aBusyServerIsWaitedFor() async throws {
    try server.setFaults(
      #"{"match": "/api/", "do": "status", "status": 429, "headers": {"Retry-After": "1"}}"#,
      #"{"match": "/resolve/", "do": "status", "status": 503, "headers": {"Retry-After": "0"}}"#)
    let start = ContinuousClock.now
    #expect(contents(try await pull()) == data)
    #expect(ContinuousClock.now - start >= .seconds(1) && notes.all.contains("answers 429"))
    try server.setFaults(
      #"{"match": "/api/", "do": "status", "status": 503, "times": 99, "headers": {"Retry-After": "0"}}"#)
    let error = await refusal()
    #expect(error?.kind == .inputOutput && error?.message.contains("5 times") == true, "\(String(describing: error))")
    // What the cache has is taken where the hub fails.
    #expect(contents(try await pull(refreshes: false)) == data)
  }

  @Test func refusalsSayWhatToDo() async throws {
    let none = await refusal("hf:owner/none")
    #expect(none?.kind == .missing && none?.message.contains("owner/none") == true)
    let quant = await refusal("hf:owner/model-GGUF:Q3_K_S")
    #expect(quant?.kind == .missing && quant?.message.contains("it has Q4_K_M, Q8_0") == true)
    try server.add("owner/plain", "model.safetensors", Data("x".utf8))
    #expect(await refusal("hf:owner/plain")?.kind == .data)
    try server.setFaults(#"{"match": "/api/", "do": "garbage", "times": 9}"#)
    let garbage = await refusal()
    #expect(garbage?.kind == .data && garbage?.message.contains("does not answer as the hub") == true)
    try server.setFaults(
      #"{"match": "/api/", "do": "status", "status": 404, "error": "\u001b[31mred\nline"}"#)
    let shown = await refusal()
    #expect(shown?.message.contains("\u{1B}") == false && shown?.message.contains("\n") == false)
  }

  // MARK: - Tokens

  @Test func theTokenGoesToTheHubAlone() async throws {
    try server.add(repository, ".token", Data("hf_secret".utf8))
    let without = await refusal()
    #expect(without?.kind == .missing && without?.message.contains("HF_TOKEN") == true)
    let wrong = await refusal("hf:owner/model-GGUF", token: "hf_wrong")
    #expect(wrong?.message.contains("no access") == true && wrong?.message.contains("hf_wrong") == false)
    server.forgetRequests()
    #expect(contents(try await pull("hf:owner/model-GGUF", token: "hf_secret")) == data)
    let asked = server.requests
    #expect(asked.filter { $0.host == "hub" }.allSatisfy { $0.authorization == "Bearer hf_secret" })
    #expect(downloads.count == 1 && downloads.allSatisfy { $0.authorization == nil })
    // From the hub's own files.
    for variables in [["HF_TOKEN_PATH": folder.file("mine")], ["HF_HOME": folder.file("home")]] {
      try FileManager.default.createDirectory(atPath: folder.file("home"), withIntermediateDirectories: true)
      for name in ["mine", "home/token"] { _ = try folder.write(name, "hf_secret\n") }
      try? FileManager.default.removeItem(atPath: folder.file("cache"))
      #expect(contents(try await pull("hf:owner/model-GGUF", variables)) == data)
    }
  }

  @Test func redirectsDoNotGoOnForEver() async throws {
    try server.setFaults(
      "{\"match\": \"/api/\", \"do\": \"redirect\", \"to\": \"/api/models/owner/model-GGUF\", \"times\": 99}")
    #expect(await refusal()?.message.contains("again and again") == true)
    try server.setFaults(#"{"match": "/api/", "do": "redirect", "to": "ftp://x/y", "times": 99}"#)
    #expect(await refusal()?.kind == .inputOutput)
  }

  #if os(Linux)
    @Test func aFullDiskIsToldBefore() async throws {
      let disk = folder.file("disk")
      try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: true)
      let mount = Process()
      mount.executableURL = URL(fileURLWithPath: "/bin/sh")
      mount.arguments = ["-c", "mount -t tmpfs -o size=100k tmpfs '\(disk)' 2>/dev/null"]
      try mount.run()
      mount.waitUntilExit()
      guard mount.terminationStatus == 0 else { return }  // not allowed here
      defer { umount2(disk, Int32(MNT_DETACH)) }
      let error = await refusal("hf:owner/model-GGUF", ["HF_HUB_CACHE": disk])
      #expect(error?.kind == .inputOutput && error?.message.contains("free; make room") == true)
      #expect(downloads.isEmpty)
    }
  #endif
}
