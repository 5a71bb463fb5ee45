import Foundation
import LadderData
import TestModels
import Testing

/// Data sets of a teacher's answers, through the real command.
@Suite(.serialized) struct DistilTests {
  let server: FakeHub
  let folder: TemporaryFolder

  init() throws {
    server = try FakeHub()
    folder = try TemporaryFolder()
    unsetenv("OPENAI_API_KEY")
  }

  private func distil(
    _ prompts: String, _ more: [String] = [], teacher: [String]? = nil, environment: [String: String] = [:],
    out: String = "out.jsonl"
  ) throws -> Command.Result {
    let path = try folder.write("prompts.jsonl", prompts)
    return try Command.run(
      ["distil", "--prompts", path, "--out", folder.file(out)] + (teacher ?? ["--server", server.endpoint]) + more,
      environment: environment, in: folder)
  }

  private func lines(_ out: String = "out.jsonl") -> [String] {
    ((try? String(contentsOfFile: folder.file(out), encoding: .utf8)) ?? "").split(separator: "\n").map(String.init)
  }

  private var asked: [FakeHub.Request] { server.requests.filter { $0.method == "POST" } }

  private static func prompts(_ count: Int) -> String {
    (0..<count).map { "{\"prompt\": \"question \($0)\"}\n" }.joined()
  }

  @Test func aServersAnswersBecomeSamples() throws {
    let prompts = """
      {"prompt": "a \\"b\\"", "answer": 5}
      {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}, {"role": "assistant", "content": "no"}]}

      """
    let result = try distil(prompts)
    #expect(result.status == 0 && result.errors.contains("2 answers to 2 of 2 prompts"), "\(result.errors)")
    #expect(
      lines() == [
        #"{"prompt":"a \"b\"","completion":"answer to a \"b\"","answer":5}"#,
        #"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"hi"},{"role":"assistant","content":"answer to hi"}]}"#,
      ])
    #expect(Set(asked.map(\.path)) == ["/v1/completions", "/v1/chat/completions"])
    #expect(try Sample.load(folder.file("out.jsonl")).count == 2)
    #expect(!FileManager.default.fileExists(atPath: folder.file("out.jsonl.part")))
    let chats = try distil(Self.prompts(1), ["--chat"], out: "chat.jsonl")
    #expect(
      chats.status == 0 && lines("chat.jsonl")[0].hasPrefix(#"{"messages":[{"role":"user","content":"question 0"}"#))
  }

  /// What a teacher thinks and which tools it calls stand apart from what it says, as training reads them.
  @Test func thoughtsAndCallsStandApart() throws {
    let prompts = """
      {"messages": [{"role": "user", "content": "think of 7"}]}
      {"messages": [{"role": "user", "content": "call now"}], "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}

      """
    let result = try distil(prompts)
    #expect(result.status == 0 && lines().count == 2, "\(result.errors)")
    #expect(lines()[0].contains(#"{"role":"assistant","content":"answer to think of 7","reasoning_content":"hm"}"#))
    #expect(
      lines()[1].contains(
        ##"{"role":"assistant","content":"","tool_calls":[{"id":"c0","type":"function","function":{"name":"f","arguments":"{}"}}]}"##
      ))
    #expect(try Sample.load(folder.file("out.jsonl")).count == 2)

    let tools = #""tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}"# + "\n"
    func ask(_ text: String) -> String {
      #"{"messages": [{"role": "user", "content": "\#(text)"}], "# + tools
    }
    let odd = try distil(
      ask("call object") + ask("call nameless") + ask("think long") + ask("call twice"),
      ["--answers", "2", "--temperature", "1", "--json"], out: "odd.jsonl")
    #expect(odd.status == 0 && lines("odd.jsonl").count == 2, "\(odd.errors) \(lines("odd.jsonl"))")
    #expect(lines("odd.jsonl")[0].contains(##""arguments":"{\"a\":[1,\"b\"]}""##), "\(lines("odd.jsonl"))")
    let json = odd.json
    #expect(json["repeated"] as? Int == 2 && json["cut"] as? Int == 2 && json["empty"] as? Int == 0)
    #expect(json["refused"] as? Int == 1)
  }

  /// A local model's template says what are thoughts.
  @Test func aModelsThoughtsStandApart() throws {
    let template =
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
      + "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    let model = try folder.model { $0.chatTemplate = template }
    let result = try distil(
      Self.prompts(2), ["--chat", "--max-tokens", "12", "--keep-cut"], teacher: ["--model", model, "--device", "CPU"])
    // Twelve tokens of a random model end no thought: there is no answer, and no markup taken for one.
    #expect(result.status == 65 && result.lastError.contains("2 empty"), "\(result.errors) \(lines())")
  }

  @Test func severalAnswersAndOnlyTheRightOnes() throws {
    let prompts = #"{"prompt": "sum 2 3", "answer": "5"}"# + "\n" + #"{"prompt": "sum 1 1", "answer": "2"}"# + "\n"
    let result = try distil(prompts, ["--answers", "4", "--temperature", "1", "--right", "--json"])
    #expect(result.status == 0, "\(result.errors)")
    // Seeds 0 and 2 are right, and say the same.
    #expect(lines().count == 2 && lines()[0].contains("#### 5") && lines()[1].contains("#### 2"))
    let json = result.json
    #expect(json["wrong"] as? Int == 4 && json["repeated"] as? Int == 2 && json["lines"] as? Int == 2)
    #expect(asked.count == 8)
    let cut = try distil("{\"prompt\": \"long\"}\n{\"prompt\": \"b\"}\n", out: "cut.jsonl")
    #expect(cut.status == 0 && lines("cut.jsonl").count == 1 && cut.errors.contains("1 cut at --max-tokens"))
    #expect(try distil("{\"prompt\": \"long\"}\n", ["--keep-cut"], out: "kept.jsonl").status == 0)
  }

  @Test func aBusyServerIsAskedAgain() throws {
    try server.setFaults(
      #"{"match": "completions", "do": "status", "status": 429, "times": 2, "headers": {"Retry-After": "0"}}"#,
      #"{"match": "completions", "do": "drop"}"#, #"{"match": "completions", "do": "cut", "after": 20}"#)
    let result = try distil(Self.prompts(6))
    #expect(result.status == 0 && lines().count == 6, "\(result.errors)")
    #expect(result.errors.contains("answers 429"))
  }

  @Test func whatIsAnsweredIsKept() throws {
    try server.setFaults(
      #"{"match": "completions", "do": "status", "status": 503, "times": 99, "headers": {"Retry-After": "0"}}"#)
    let none = try distil(Self.prompts(3))
    #expect(none.status == 74 && none.lastError.contains("run the same command again"), "\(none.errors)")
    server.forgetRequests()
    let path = try folder.write("many.jsonl", Self.prompts(40))
    let arguments = [
      "distil", "--prompts", path, "--out", folder.file("many.out"), "--server", server.endpoint, "--parallel", "2",
    ]
    try server.setFaults(#"{"match": "completions", "do": "slow", "pause": 0.1, "times": 9999}"#)
    let running = try Command.start(arguments, in: folder)
    running.signal(SIGINT) { server.requests.count > 12 }
    let stopped = running.wait()
    #expect(stopped.status == 130 && stopped.lastError.contains("what is answered is kept"), "\(stopped.errors)")
    let kept = lines("many.out.part").count - 1
    #expect(kept > 5 && kept < 40)
    // The line that a kill cuts short is asked again.
    let handle = try #require(FileHandle(forWritingAtPath: folder.file("many.out.part")))
    try handle.seekToEnd()
    try handle.write(contentsOf: Data("{\"prompt\":3".utf8))
    try handle.close()
    try server.setFaults()
    server.forgetRequests()
    let other = try Command.run(arguments + ["--max-tokens", "7"], in: folder)
    #expect(other.status == 64 && other.lastError.contains("other settings"), "\(other.errors)")
    let result = try Command.run(arguments, in: folder)
    #expect(result.status == 0 && lines("many.out") == lines("many.out").sorted { number($0) < number($1) })
    #expect(lines("many.out").count == 40 && asked.count == 40 - kept)
  }

  private func number(_ line: String) -> Int {
    Int(line.components(separatedBy: "question ")[1].prefix { $0.isNumber }) ?? -1
  }

  @Test func theKeyComesFromTheEnvironment() throws {
    try Data("sk-1".utf8).write(to: URL(fileURLWithPath: server.path("key")))
    let without = try distil(Self.prompts(1))
    #expect(without.status == 64 && without.lastError.contains("--api-key"), "\(without.errors)")
    #expect(try distil(Self.prompts(1), environment: ["OPENAI_API_KEY": "sk-1"]).status == 0)
    let named = try distil(Self.prompts(1), ["--api-key", "MINE"], environment: ["MINE": "sk-1"], out: "b.jsonl")
    #expect(named.status == 0, "\(named.errors)")
    let unset = try distil(Self.prompts(1), ["--api-key", "NOT_SET"], out: "c.jsonl")
    #expect(unset.status == 64 && unset.lastError.contains("NOT_SET"), "\(unset.errors)")
  }

  @Test func refusalsAreToldOrEndIt() throws {
    try server.setFaults(
      #"{"match": "completions", "do": "status", "status": 400, "error": "the prompt is too long"}"#)
    let some = try distil(Self.prompts(3), ["--parallel", "1"])
    #expect(some.status == 0 && some.errors.contains("1 prompts got no answer"), "\(some.errors)")
    #expect(some.errors.contains("prompts.jsonl:1") && some.errors.contains("too long"))
    try server.setFaults(#"{"match": "completions", "do": "status", "status": 400, "times": 99, "error": "too long"}"#)
    #expect(try distil(Self.prompts(3), out: "b.jsonl").status == 65)
    // Asked again, of a server that has room by now.
    try server.setFaults()
    #expect(try distil(Self.prompts(3), out: "b.jsonl").status == 0 && lines("b.jsonl").count == 3)
    try server.setFaults(#"{"match": "completions", "do": "status", "status": 404, "times": 99}"#)
    #expect(try distil(Self.prompts(3), out: "c.jsonl").status == 66)
    try server.setFaults(#"{"match": "completions", "do": "garbage", "times": 99}"#)
    #expect(try distil(Self.prompts(3), out: "d.jsonl").status == 65)
    for (prompts, more, teacher, status, words) in [
      ("{\"text\": 1}\n", [], nil, 65, "prompts.jsonl:1: "), ("", [], nil, 65, "prompts.jsonl"),
      (Self.prompts(1), ["--answers", "2"], nil, 64, "--temperature"),
      (Self.prompts(1), ["--right"], nil, 64, "answer"), (Self.prompts(1), [], [], 64, "one teacher"),
      (Self.prompts(1), [], ["--server", "localhost"], 64, "--server"),
    ] as [(String, [String], [String]?, Int32, String)] {
      let result = try distil(prompts, more, teacher: teacher, out: "e.jsonl")
      #expect(result.status == status && result.lastError.contains(words), "\(result.errors)")
      #expect(result.errors.split(separator: "\n").count == 1, "\(result.errors)")
    }
  }

  @Test func aModelAnswersAsGenerateDoes() throws {
    let model = try folder.model { $0.chatTemplate = "{% for m in messages %}{{ m.content }}{% endfor %}" }
    let teacher = ["--model", model, "--device", "CPU"], more = ["--max-tokens", "6", "--keep-cut"]
    let result = try distil(Self.prompts(5), more, teacher: teacher)
    #expect(result.status == 0 && lines().count == 5, "\(result.errors)")
    let alone = try Command.run(
      ["generate", "--prompt", "question 3", "--max-tokens", "6"] + teacher, in: folder)
    let sample = try #require(try Sample.load(folder.file("out.jsonl")).dropFirst(3).first)
    #expect(sample.form == .completion(prompt: "question 3", completion: String(alone.output.dropLast())))
    let draws = try distil(
      Self.prompts(2), more + ["--answers", "3", "--temperature", "2", "--chat"], teacher: teacher, out: "draws.jsonl")
    #expect(draws.status == 0 && lines("draws.jsonl").count > 3, "\(draws.errors)")
    #expect(lines("draws.jsonl").allSatisfy { $0.hasPrefix("{\"messages\"") })
  }
}
