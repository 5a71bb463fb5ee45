import Foundation
import LadderCore
import Testing

@testable import LadderCommand

@Suite(.serialized) struct ChildProcessTests {
  private let shell = URL(fileURLWithPath: "/bin/sh")

  @Test func streamsLargerThanAPipeDoNotBlock() throws {
    var lines = 0
    let ended = try ChildProcess.run(
      shell,
      [
        "-c",
        """
        head -c 3000000 /dev/zero
        i=0; while [ $i -lt 5000 ]; do echo "a line of some length, number $i" >&2; i=$((i+1)); done
        head -c 3000000 /dev/zero; printf 'the end, without a new line' >&2; exit 3
        """,
      ]
    ) { _ in lines += 1 }
    #expect(ended.output.count == 6_000_000 && ended.status == 3)
    #expect(lines == 5001 && ended.lastLine == "the end, without a new line")
  }

  @Test func aCancelledTasksChildIsToldOnceAndPromptly() async throws {
    // A child that is silent, counts what it is sent, and takes a while to end.
    let script =
      "n=0; trap 'n=$((n+1))' TERM INT; echo ready >&2; while [ $n -eq 0 ]; do sleep 0.02; done; sleep 0.5; echo $n"
    let shell = shell
    let (started, ready) = AsyncStream.makeStream(of: Void.self)
    let task = Task.detached {
      try ChildProcess.run(shell, ["-c", script]) { _ in ready.yield() }
    }
    for await _ in started { break }
    let began = ContinuousClock.now
    task.cancel()
    let ended = try await task.value
    #expect(String(decoding: ended.output, as: UTF8.self) == "1\n")
    #expect(ContinuousClock.now - began < .seconds(30))
  }

  @Test func aProgramThatIsNotThereGetsALine() {
    #expect(throws: LadderError.self) {
      try ChildProcess.run(URL(fileURLWithPath: "/no/such/program"), []) { _ in }
    }
  }
}
