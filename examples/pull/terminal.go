package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
)

// A terminal is a screen on which a line can be rewritten.
type terminal struct {
	out     io.Writer
	columns func() int // called for each line, because the window may change its size
	color   bool
	shown   int // columns of the line that is shown; 0 = no line
}

// newTerminal returns nil if w is not a terminal, or if the terminal cannot move its
// cursor.
func newTerminal(w io.Writer) *terminal {
	file, ok := w.(*os.File)
	if term := os.Getenv("TERM"); !ok || !isTerminal(file) || term == "" || term == "dumb" {
		return nil
	}
	return &terminal{
		out:     file,
		columns: func() int { return columns(file) },
		color:   os.Getenv("NO_COLOR") == "",
	}
}

// columns returns the width of a terminal: its own answer, else COLUMNS, else 80.
func columns(file *os.File) int {
	if n := windowColumns(file); n > 0 {
		return n
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	return 80
}

// The escape sequences are those of ECMA-48, which all common terminals know.
const (
	clearBelow = "\r\x1b[J" // from the beginning of the line to the end of the screen
	cursorUp   = "\x1b[%dA"
	cyan       = "\x1b[36m"
	green      = "\x1b[32m"
	noColor    = "\x1b[0m"
)

// show replaces the line that is shown by text. text is ASCII, so that its length is
// its width.
func (t *terminal) show(text string) {
	text = text[:min(len(text), max(t.columns()-1, 0))] // a full last column would wrap
	fmt.Fprint(t.out, t.erase()+t.paint(cyan, text))
	t.shown = len(text)
}

// clear removes the line.
func (t *terminal) clear() {
	if t.shown > 0 {
		fmt.Fprint(t.out, t.erase())
		t.shown = 0
	}
}

// erase returns the escape sequence that removes the line. A terminal that becomes
// narrower wraps its text again, so the line may have become several lines.
func (t *terminal) erase() string {
	if t.shown == 0 {
		return "\r"
	}
	if rows := (t.shown - 1) / max(t.columns(), 1); rows > 0 {
		return fmt.Sprintf(cursorUp, rows) + clearBelow
	}
	return clearBelow
}

// paint colours text, unless NO_COLOR is set (no-color.org).
func (t *terminal) paint(color, text string) string {
	if !t.color || color == "" || text == "" {
		return text
	}
	return color + text + noColor
}
