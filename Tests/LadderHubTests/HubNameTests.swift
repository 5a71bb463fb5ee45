import LadderCore
import Testing

@testable import LadderHub

@Suite struct HubNameTests {
  @Test func namesAreRead() throws {
    #expect(try HubName("hf:a/b") == .model(repository: "a/b", choice: nil))
    #expect(try HubName("hf:a-1/b.c_d:Q4_K_M") == .model(repository: "a-1/b.c_d", choice: "Q4_K_M"))
    #expect(try HubName("hf:a/b:x/y.gguf") == .model(repository: "a/b", choice: "x/y.gguf"))
    #expect(try HubName("hf:datasets/a/b") == .dataset(repository: "a/b", configuration: nil, split: nil))
    #expect(try HubName("hf:datasets/a/b/c:t") == .dataset(repository: "a/b", configuration: "c", split: "t"))
    // An owner may have that name.
    #expect(try HubName("hf:datasets/b") == .model(repository: "datasets/b", choice: nil))
  }

  @Test(arguments: [
    "hf:", "hf:a", "hf:a/b/c", "hf:a/b:", "hf:../b", "hf:a/..", "hf:a//b", "hf:a/b?x", "hf:a/b:../c", "hf:a b/c",
    "hf:datasets/a/b/c/d", "hf:datasets/a/b:", "hf:a/b--c", "hf:-a/b", "a/b", "hf:a/\u{1B}[1m", "hf:a/b:x\ny",
  ]) func whatIsNoNameIsRefused(_ text: String) throws {
    let error = #expect(throws: LadderError.self) { try HubName(text) }
    #expect(error?.kind == .usage && error?.message.contains("\u{1B}") == false)
  }

  @Test func theChoiceIsLlamaCpps() throws {
    let files = [
      "README.md", "m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-m-f16.gguf",
      "big/m-BF16-00001-of-00002.gguf", "big/m-BF16-00002-of-00002.gguf",
    ]
    #expect(try GGUFChoice.files(files, choice: nil) == ["m-Q4_K_M.gguf"])
    #expect(try GGUFChoice.files(files, choice: "q8_0") == ["m-Q8_0.gguf"])
    #expect(try GGUFChoice.files(files, choice: "BF16") == Array(files.suffix(2)))
    #expect(try GGUFChoice.files(files, choice: "m-Q2_K.gguf") == ["m-Q2_K.gguf"])
    #expect(try GGUFChoice.files(files, choice: "big/m-BF16-00002-of-00002.gguf") == Array(files.suffix(2)))
    #expect(try GGUFChoice.files(files, choice: "Q5_0") == nil)
    #expect(try GGUFChoice.files(["b.gguf", "c.gguf"], choice: nil) == ["b.gguf"])
    #expect(try GGUFChoice.files(["m-Q8_0.gguf", "b.gguf"], choice: nil, isStrict: true) == nil)
    #expect(try GGUFChoice.files(["m-BF16.gguf", "m-F16.gguf"], choice: "F16") == ["m-F16.gguf"])
    #expect(try GGUFChoice.files(["mmproj-x.gguf"], choice: nil) == nil)
    #expect(GGUFChoice.choices(files) == ["Q2_K", "Q4_K_M", "Q8_0", "BF16"])
    #expect(throws: LadderError.self) { try GGUFChoice.files(["m-00001-of-00002.gguf"], choice: nil) }
  }

  @Test func theEnvironmentIsTheHubs() throws {
    let plain = try HubEnvironment(["HOME": "/home/a"])
    #expect(plain.endpoint == "https://huggingface.co" && plain.cache == "/home/a/.cache/huggingface/hub")
    #expect(plain.datasetsServer == "https://datasets-server.huggingface.co" && !plain.isOffline && plain.token == nil)
    let set = try HubEnvironment([
      "HF_HOME": "/h", "HF_ENDPOINT": "http://mirror:8080/", "HF_TOKEN": " t\n", "HF_HUB_OFFLINE": "1",
      "LLAMA_CACHE": "/l",
    ])
    #expect(set.endpoint == "http://mirror:8080" && set.cache == "/h/hub" && set.token == "t" && set.isOffline)
    #expect(set.datasetsServer == "http://mirror:8080" && set.otherCaches == ["/l"])
    #expect(throws: LadderError.self) { try HubEnvironment(["HF_ENDPOINT": "mirror"]) }
    #expect(throws: LadderError.self) { try HubEnvironment(["HF_TOKEN": "a b"]) }
  }

  @Test func checksumsAreGits() {
    var sum = GitChecksum(size: 6)
    sum.update(Array("hello\n".utf8))
    #expect(sum.hexadecimal() == "ce013625030ba8dba906f756967f9e9ca394464a")
    #expect(GitChecksum(size: 0).hexadecimal() == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391")
  }

  @Test func listsOfFilesAreReadWithCare() {
    let sum = String(repeating: "a", count: 40)
    func list(_ path: String) -> Int? {
      RepositoryFile.list(
        Array("[{\"type\":\"file\",\"path\":\"\(path)\",\"oid\":\"\(sum)\",\"size\":3}]".utf8).withUnsafeBytes {
          .init($0)
        })?
        .count
    }
    #expect(list("a/b.gguf") == 1)
    for path in ["/etc/x", "../x", "a/../x", "a//b", "", "a\\\\b", "a\\u0000b"] { #expect(list(path) == 0, "\(path)") }
    #expect(RepositoryFile.list(.init("{}".utf8)) == nil)
  }
}
