/// Tables, paragraphs and charts in one file that needs nothing else.
public struct HTMLReport: Sendable {
  public let title: String
  private var body = ""
  private var style = ""

  public init(title: String) { self.title = title }

  /// - Parameter table: rows of text, a heading first.
  public mutating func add(_ heading: String, table: [[String]]) {
    add(heading: heading)
    body += "<table>\n"
    for (index, row) in table.enumerated() {
      let tag = index == 0 ? "th" : "td"
      body += "<tr>" + row.map { "<\(tag)>\(LineChart.escaped($0))</\(tag)>" }.joined() + "</tr>\n"
    }
    body += "</table>\n"
  }

  public mutating func add(_ chart: LineChart) { body += "<figure>\n\(chart.svg())</figure>\n" }

  public mutating func add(paragraph: String) { body += "<p>\(LineChart.escaped(paragraph))</p>\n" }

  public mutating func add(heading: String) { body += "<h2>\(LineChart.escaped(heading))</h2>\n" }

  /// Rules beside the page's own.
  mutating func add(style rules: String) { style += rules + "\n" }

  /// What is HTML already.
  mutating func add(html: String) { body += html }

  public var html: String {
    """
    <!doctype html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width">
    <title>\(LineChart.escaped(title))</title>
    <style>
    body { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2em auto; padding: 0 1em; color: #222; }
    table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }
    th, td { border-bottom: 1px solid #ddd; padding: 4px 9px; text-align: left; white-space: nowrap; }
    figure { margin: 1.5em 0; } svg { max-width: 100%; height: auto; }
    \(style)    </style>
    </head>
    <body>
    <h1>\(LineChart.escaped(title))</h1>
    \(body)</body>
    </html>

    """
  }
}
