import LadderData
import Testing

struct GroupedSplitTests {
  private func prompt(_ sample: Sample) -> String {
    if case .completion(let prompt, _) = sample.form { prompt } else { "" }
  }

  /// Solutions of one problem stay together; what every prompt says binds nothing.
  @Test func whatSharesALineStaysTogether() throws {
    let samples = (0..<400).map { i in
      Sample(
        prompt:
          "Judge the solution that is given below.\nQuestion: how many apples are in basket \(i / 4)?\nSolution: \(i)\nRight?",
        completion: i % 2 == 0 ? " yes" : " no")
    }
    let parts = try #require(samples.split(0.1, seed: 3))
    #expect(parts.kept.count + parts.apart.count == 400 && parts.apart.count == 40)
    func questions(_ samples: [Sample]) -> Set<Substring> { Set(samples.map { prompt($0).split(separator: "\n")[1] }) }
    #expect(questions(parts.kept).isDisjoint(with: questions(parts.apart)))
    #expect(questions(parts.apart).count == 10)
    // The same seed parts alike, another otherwise.
    #expect(try #require(samples.split(0.1, seed: 3)).apart == parts.apart)
    #expect(try #require(samples.split(0.1, seed: 4)).apart != parts.apart)
    #expect(parts.kept == samples.filter(parts.kept.contains))
  }

  @Test func shortPromptsThatRepeatStayTogether() throws {
    let samples = (0..<60).map { Sample(prompt: "n \($0 % 20)", completion: " \($0)") }
    let parts = try #require(samples.split(0.2, seed: 0))
    #expect(Set(parts.kept.map(prompt)).isDisjoint(with: Set(parts.apart.map(prompt))))
    #expect(parts.apart.count == 12)
  }

  @Test func whatCannotBePartedIsNot() {
    #expect([Sample(prompt: "a", completion: "b")].split(0.5, seed: 0) == nil)
    #expect((0..<5).map { Sample(prompt: "the same", completion: " \($0)") }.split(0.2, seed: 0) == nil)
  }
}
