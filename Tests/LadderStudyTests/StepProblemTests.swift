import Foundation
import LadderCompute
import LadderCore
import Testing

@testable import LadderStudy

@Suite struct StepProblemTests {
  @Test func resultsFollowTheSteps() throws {
    var random = SeededRandom(seed: 0)
    var problem = StepProblem(steps: 3, modulus: 5, &random)
    problem.start = 4
    problem.steps = [
      .init(operation: "+", operand: 2), .init(operation: "*", operand: 3), .init(operation: "+", operand: 4),
    ]
    #expect(problem.results == [1, 3, 2])
    #expect(problem.prompt == "Modulo 5: 4+2*3+4\nAnswer:")
    #expect(problem.completion(.none) == " #### 2")
    #expect(problem.completion(.half) == " 4+2*3=3 3+4=2 #### 2")
    #expect(problem.completion(.all) == " 4+2=1 1*3=3 3+4=2 #### 2")
  }

  @Test func hopsFollowTheLinks() throws {
    var random = SeededRandom(seed: 0)
    var problem = HopProblem(links: [1, 3, 0, 2], depth: 2, &random)
    (problem.order, problem.start) = ([2, 1, 0, 3], 2)
    #expect(problem.prompt == "c>a\nb>d\na>b\nd>c\n2 hops: c>" && problem.answer == "b")
    problem.depth = 1
    #expect(problem.prompt.hasSuffix("d>c\n1 hop: c>") && problem.answer == "a")
    #expect(
      try problem.line(.none)
        == Data(
          #"{"choices":["a","b","c","d"],"completion":"a","prompt":"c>a\nb>d\na>b\nd>c\n1 hop: c>"}"#.utf8) + [10])

    let (train, dev) = HopProblem.draw(train: 200, dev: 50, deepest: 4, letters: 8)
    #expect(dev.count == 200 && train.count == 800 && Set(train).count == 800)
    #expect(Set(train.map(\.links)).isDisjoint(with: dev.map(\.links)))
    for problem in train {
      // One circle: as many hops as there are letters lead back, fewer never do.
      let way = (1...8).map { hops in (0..<hops).reduce(problem.start) { at, _ in problem.links[at] } }
      #expect(Set(way).count == 8 && way.last == problem.start && problem.order.sorted() == Array(0..<8))
    }
    // Of four letters there are six circles, and one is kept apart.
    let few = HopProblem.draw(train: 400, dev: 20, deepest: 2, letters: 4)
    #expect(Set(few.dev.map(\.links)).count == 1 && Set(few.train.map(\.links)).count == 5 && few.dev.count == 40)
    #expect(Set(few.train.map(\.links)).isDisjoint(with: few.dev.map(\.links)))
    for letter in "abcdefgh" {
      let share = Double(train.filter { $0.answer == String(letter) }.count) / Double(train.count)
      #expect(share > 0.08 && share < 0.17)
    }
  }

  @Test func drawnProblemsAreDifferentAndKeptApart() {
    let dev = StepProblem.draw(40, deepest: 8, modulus: 5, seed: 1, share: 0.2)
    let train = StepProblem.draw(400, deepest: 8, modulus: 5, seed: 2, except: Set(dev))
    // Of one step there are 35 problems.
    #expect(dev.count == 7 + 7 * 40 && Set(dev).count == dev.count)
    #expect(Set(train).count == train.count && Set(train).isDisjoint(with: dev))
    #expect(train.filter { $0.steps.count == 1 }.count == 28 && train.filter { $0.steps.count == 5 }.count == 400)
    // Every answer is about as likely, so that a guess is right one time in five.
    for digit in 0..<5 {
      let share = Double(train.filter { $0.results.last == digit }.count) / Double(train.count)
      #expect(share > 0.16 && share < 0.24)
    }
  }
}
