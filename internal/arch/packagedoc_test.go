package arch

import (
	"go/doc/comment"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sections are the headings of the Kubernetes page "Images". A table may name one
// by its beginning.
var sections = []string{
	"Image names",
	"Updating images",
	"Image pull policy",
	"Default image pull policy",
	"Required image pull",
	"ImagePullBackOff",
	"Multi-architecture images with image indexes",
	"Using a private registry",
	"Configuring nodes to authenticate to a private registry",
	"Interpretation of config.json",
	"Pre-pulled images",
	"Specifying imagePullSecrets on a Pod",
	"Creating a Secret with a Docker config",
	"Referring to an imagePullSecrets on a Pod",
	"Use cases",
}

// withoutSection are packages that implement no section, and say so.
var withoutSection = []string{"puller/content", "puller/pullertest"}

// maxTableLine is how wide a table's line may be: 110 columns as go doc shows it.
const maxTableLine = 106

// TestPackageComments holds the form of the package comments: what the package is
// for, a Go block with the call most users need, the rules in a table with the
// section of the page that each implements, and what is left out.
func TestPackageComments(t *testing.T) {
	for _, dir := range publicPackages {
		t.Run(dir, func(t *testing.T) {
			pkg, _ := parse(t, dir)
			parts := docParts(new(comment.Parser).Parse(pkg.Doc))
			assert.True(t, strings.HasPrefix(pkg.Doc, "Package "+path.Base(dir)+" "), "the first sentence")

			assert.Contains(t, parts[""].text, "The one call most users need")
			if assert.NotEmpty(t, parts[""].blocks, "no block before the first heading") {
				_, err := goBody(parts[""].blocks[0])
				assert.NoError(t, err, "the first block is no Go")
			}
			if assert.NotEmpty(t, parts["Rules"].blocks, "no table below the heading Rules") {
				if slices.Contains(withoutSection, dir) {
					assert.Contains(t, parts["Rules"].text, "implements no section of the Kubernetes page")
				} else {
					checkRules(t, dir, parts["Rules"].blocks[0])
				}
				for line := range strings.Lines(strings.Join(parts["Rules"].blocks, "")) {
					assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimRight(line, "\n")), maxTableLine, "%s", line)
				}
			}
			assert.NotEmpty(t, parts["Left out"].text, "no text below the heading Left out")
		})
	}
}

// A docPart is what stands below one heading of a comment.
type docPart struct {
	text   string
	blocks []string
}

// docParts are the parts of a comment by their headings; the one before the first has "".
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

// checkRules reads a table of rules: each row names functions that there are, and a
// section of the page or a dash.
func checkRules(t *testing.T, dir, table string) {
	columns := regexp.MustCompile(` {2,}`)
	names := declarations(t, filepath.Join("..", "..", filepath.FromSlash(dir)))
	rows := strings.Split(strings.TrimSuffix(table, "\n"), "\n")
	require.Equal(t, []string{"rule", "function", "section"}, columns.Split(rows[0], -1), "the table's head")
	assert.GreaterOrEqual(t, len(rows), 1+4)
	assert.LessOrEqual(t, len(rows), 1+12)
	implemented := 0
	for _, row := range rows[1:] {
		cells := columns.Split(row, -1)
		if !assert.Len(t, cells, 3, "%s", row) {
			continue
		}
		for _, name := range strings.Split(cells[1], ", ") {
			assert.True(t, names[name], "%q names %s, which does not exist", row, name)
		}
		if cells[2] != "-" {
			implemented++
			assert.True(t, slices.ContainsFunc(sections, func(s string) bool {
				return strings.HasPrefix(s+" ", cells[2]+" ")
			}), "%q names a section that the page does not have", row)
		}
	}
	assert.NotZero(t, implemented, "no row names a section; see withoutSection")
}
