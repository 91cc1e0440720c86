package arch

import (
	"go/doc/comment"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

// maxTableLine is the width of a preformatted line: 110 columns as go doc shows it.
const maxTableLine = 106

// A package comment begins with prose that says what the package is for, has a Go block with
// the call most users need, and ends with what is left out. Preformatted lines fit into a
// terminal.
func TestPackageCommentsHaveTheirForm(t *testing.T) {
	for _, dir := range slices.Concat(publicPackages, publicModules) {
		t.Run(dir, func(t *testing.T) {
			pkg, _ := parse(t, dir)
			parts := docParts(new(comment.Parser).Parse(pkg.Doc))
			assert.True(t, strings.HasPrefix(pkg.Doc, "Package "+path.Base(dir)+" "), "the first sentence")

			assert.Contains(t, parts[""].text, "The one call most users need")
			if assert.NotEmpty(t, parts[""].blocks, "no block before the first heading") {
				_, err := goBody(parts[""].blocks[0])
				assert.NoError(t, err, "the first block is not Go")
			}
			for heading, part := range parts {
				assert.NotEmpty(t, part.text+strings.Join(part.blocks, ""), "nothing below the heading %s", heading)
				for line := range strings.Lines(strings.Join(part.blocks, "")) {
					assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimRight(line, "\n")), maxTableLine, "%s", line)
				}
			}
			assert.NotEmpty(t, parts["Left out"].text, "no text below the heading Left out")
		})
	}
}

// A docPart is the text below one heading of a comment.
type docPart struct {
	text   string
	blocks []string
}

// docParts returns the parts of a comment by their headings. The part before the first
// heading has the key "".
func docParts(d *comment.Doc) map[string]docPart {
	var printer comment.Printer
	parts, heading := map[string]docPart{}, ""
	for _, block := range d.Content {
		part := parts[heading]
		switch block := block.(type) {
		case *comment.Heading:
			heading = strings.TrimSpace(strings.TrimPrefix(string(printer.Text(&comment.Doc{Content: []comment.Block{block}})), "#"))
			continue
		case *comment.Code:
			part.blocks = append(part.blocks, block.Text)
		default:
			// In one line, so that it does not matter where lines break.
			text := string(printer.Text(&comment.Doc{Content: []comment.Block{block}}))
			part.text += strings.Join(strings.Fields(text), " ") + "\n"
		}
		parts[heading] = part
	}
	return parts
}
