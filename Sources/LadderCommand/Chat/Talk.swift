import Foundation
import Ladder

/// A chat on a terminal, or with lines from elsewhere: questions, commands and answers until the input ends.
struct Talk {
  let engine: GenerationEngine
  let options: GenerationOptions
  let isPlain: Bool
  let compares: Bool
  let template: ChatSettings?
  var session = ChatSession()
  var tellsSpeed = false
  private var names: [String] = []
  private let isTerminal = isatty(STDOUT_FILENO) != 0

  init(engine: GenerationEngine, options: GenerationOptions, isPlain: Bool, compares: Bool, template: ChatSettings?) {
    self.engine = engine
    self.options = options
    self.isPlain = isPlain
    self.compares = compares
    self.template = template
  }

  /// Loads a run; from here on it answers.
  mutating func load(_ path: String) async throws {
    let run = RunDirectory(path)
    if let note = try run.note() { Terminal.note(note) }
    var name = URL(fileURLWithPath: path).lastPathComponent
    while names.contains(name) { name += "'" }
    try await engine.load(run, as: name, template: template)
    names.append(name)
    session.answers = name
  }

  mutating func run() async throws {
    let lines = TerminalLines(), interrupts = ChatInterrupts { lines.close() }
    defer {
      interrupts.stop()
      lines.close()
    }
    while let line = lines.next("\n\(compares ? "" : session.answers ?? "base")> ") {
      let text = line.trimmingCharacters(in: .whitespacesAndNewlines)
      if text.isEmpty { continue }
      do {
        if text.hasPrefix("/") {
          if try await !obey(text) { return }
        } else {
          try await answer(text, interrupts)
        }
      } catch let error as LadderError where error.kind != .engine {
        // What one line asks wrongly ends no chat.
        Terminal.note(error.message)
      }
    }
  }

  // MARK: - Commands

  /// - Returns: false at the chat's end.
  private mutating func obey(_ line: String) async throws -> Bool {
    let parts = line.split(separator: " ", maxSplits: 1), rest = parts.count > 1 ? String(parts[1]) : ""
    func argument(_ what: String) throws -> String {
      if rest.isEmpty { throw LadderError(.usage, "\(parts[0]) needs \(what)") }
      return rest
    }
    switch parts[0] {
    case "/quit", "/exit": return false
    case "/help": Terminal.output(ChatCommand.commands)
    case "/system": session.tellSystem(rest)
    case "/base": session.answers = nil
    case "/ladders": Terminal.output((["base"] + names).joined(separator: "\n"))
    case "/ladder":
      let name = try argument("a run's name or folder")
      if names.contains(name) { session.answers = name } else { try await load(name) }
    case "/undo": if !session.undo() { Terminal.note("there is nothing to take back") }
    case "/clear": session.clear()
    case "/save": try session.save(try argument("a file"))
    case "/load": try session.load(try argument("a file"))
    default: throw LadderError(.usage, "there is no command \(parts[0].prefix(40)); /help lists them")
    }
    return true
  }

  // MARK: - Answers

  private mutating func answer(_ question: String, _ interrupts: ChatInterrupts) async throws {
    let text = isPlain ? question.replacingOccurrences(of: "\\n", with: "\n") : question
    session.ask(text)
    do {
      if compares, session.answers != nil {
        let (base, own) = try await both(text, interrupts)
        session.answer(own, base: base)
      } else {
        let input = isPlain ? .prompt(text) : GenerationEngine.Input.conversation(Conversation(session.messages))
        let said = try await one(input, session.answers, interrupts) { Terminal.outputPiece($0) }
        if !tellsSpeed { Terminal.output("") }
        session.answer(said)
      }
    } catch {
      _ = session.undo()
      throw error
    }
  }

  /// - Returns: what was said, by the template's own format, whether or not it was let come to its end.
  private func one(
    _ input: GenerationEngine.Input, _ name: String?, _ interrupts: ChatInterrupts,
    _ show: @escaping @Sendable (String) -> Void
  ) async throws -> ChatMessage {
    let engine = engine, options = options, tellsSpeed = tellsSpeed, isAside = compares && session.answers != nil
    let task = Task {
      var prepared: PreparedPrompt?
      if case .conversation(let conversation) = input, let model = await engine.loaded(name) {
        prepared = try await engine.prepare(conversation, rules: AnswerRules(), with: model)
      }
      var said = SpokenAnswer(prepared?.format)
      let events =
        prepared.map { engine.generate($0, options: options) } ?? engine.generate(input, with: name, options: options)
      for try await event in events {
        switch event {
        case .began: break
        case .piece(let text, _): show(said.take(text))
        case .ended(let generation):
          show(said.end(isWhole: generation.ended || generation.stop != nil))
          if tellsSpeed {
            if !isAside { Terminal.output("") }
            Terminal.note(
              String(
                format: "%@: %d tokens at %.1f tok/s; %d of the prompt's %d were held, the first came after %.2f s",
                name ?? "base", generation.tokens, generation.tokensPerSecond, generation.reusedTokens,
                generation.promptTokens, generation.promptSeconds))
          }
        }
      }
      return said.message
    }
    return try await interrupts.during(task)
  }

  /// The answers of the model alone and of the run, written in one pass, shown side by side.
  private func both(_ text: String, _ interrupts: ChatInterrupts) async throws -> (base: ChatMessage, own: ChatMessage)
  {
    let name = session.answers ?? ""
    let inputs: [GenerationEngine.Input] =
      isPlain
      ? [.prompt(text), .prompt(text)]
      : [.conversation(Conversation(session.baseMessages)), .conversation(Conversation(session.messages))]
    guard isTerminal else {
      async let base = one(inputs[0], nil, interrupts) { _ in }
      async let own = one(inputs[1], name, interrupts) { _ in }
      let said = try await (base: base, own: own)
      Terminal.output("base: \(said.base.content)\n\(name): \(said.own.content)")
      return said
    }
    let columns = Columns(width: Terminal.columns(of: STDOUT_FILENO), titles: ("base", name))
    async let base = one(inputs[0], nil, interrupts) { columns.take(left: $0) }
    async let own = one(inputs[1], name, interrupts) { columns.take(right: $0) }
    let first = try await base
    columns.endLeft()
    let second = try await own
    columns.endRight()
    return (first, second)
  }

  /// Shows two columns that several tasks write to.
  private final class Columns: @unchecked Sendable {
    private let lock = NSLock()
    private var view: SideBySide

    init(width: Int, titles: (String, String)) { view = SideBySide(width: width, titles: titles) }

    func take(left text: String) { show { $0.take(left: text) } }
    func take(right text: String) { show { $0.take(right: text) } }
    func endLeft() { show { $0.endLeft() } }
    func endRight() { show { $0.endRight() } }

    private func show(_ change: (inout SideBySide) -> [String]) {
      lock.withLock { for row in change(&view) { Terminal.output(row) } }
    }
  }
}
