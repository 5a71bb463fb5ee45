import LadderCompute
import Testing

@testable import LadderStudy

@Suite struct StepProblemTests {
  @Test func resultsFollowTheSteps() throws {
    var random = SeededRandom(seed: 0)
    var problem = StepProblem(steps: 4, &random)
    problem.start = 7
    problem.steps = [
      .init(operation: "+", operand: 4), .init(operation: "*", operand: 3), .init(operation: "-", operand: 5), .init(operation: "*", operand: 9),
    ]
    #expect(problem.results == [1, 3, 8, 2])
    #expect(problem.prompt == "Modulo 10. Start with 7. Then +4, *3, -5, *9.\nAnswer:")
    #expect(problem.completion(.none) == " #### 2")
    #expect(problem.completion(.half) == " 3 2 #### 2")
    #expect(problem.completion(.all) == " 1 3 8 2 #### 2")
  }

  @Test func drawnProblemsAreDifferentAndKeptApart() {
    let dev = StepProblem.draw(40, deepest: 8, seed: 1), train = StepProblem.draw(400, deepest: 8, seed: 2, except: Set(dev))
    #expect(dev.count == 320 && Set(dev).count == 320)
    #expect(Set(train).count == train.count && Set(train).isDisjoint(with: dev))
    #expect(train.filter { $0.steps.count == 1 }.count < 210 && train.filter { $0.steps.count == 5 }.count == 400)
    // Every answer is about as likely, so that a guess is right one time in ten.
    for digit in 0..<10 {
      let share = Double(train.filter { $0.results.last == digit }.count) / Double(train.count)
      #expect(share > 0.07 && share < 0.13)
    }
  }
}
