package content_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/content"
)

func TestError(t *testing.T) {
	cause := errors.New("404 Not Found")
	err := fmt.Errorf("layer: %w", &content.Error{Kind: content.ErrNotFound, Host: "reg.example:5000", Err: cause})
	assert.Equal(t, "layer: reg.example:5000: not found: 404 Not Found", err.Error())
	assert.ErrorIs(t, err, content.ErrNotFound)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.NotErrorIs(t, err, fs.ErrPermission)
	assert.ErrorIs(t, err, cause)
	assert.Equal(t, content.ErrNotFound, content.KindOf(err))
	assert.ErrorIs(t, content.ErrDenied, fs.ErrPermission)
	assert.ErrorIs(t, content.ErrUnauthorized, fs.ErrPermission)
	assert.NotErrorIs(t, content.ErrTimeout, fs.ErrPermission)

	plain := &content.Error{Kind: content.ErrRateLimited, RetryAfter: time.Minute}
	assert.Equal(t, "rate limited", plain.Error())
	assert.ErrorIs(t, plain, content.ErrRateLimited)
	assert.Equal(t, content.Kind(""), content.KindOf(cause))
	assert.Equal(t, content.Kind(""), content.KindOf(nil))

	inner := &content.Error{Kind: content.ErrNetwork, Err: cause}
	outer := &content.Error{Kind: content.ErrStore, Err: inner}
	assert.Equal(t, content.ErrStore, content.KindOf(outer), "the outermost")
}

// TestTable holds the table of the package comment against the constants.
func TestTable(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	require.NoError(t, err)
	kinds := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Kind" && len(spec.Values) == 1 {
				text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				require.NoError(t, err)
				kinds[spec.Names[0].Name] = text
			}
		}
		return true
	})
	assert.Len(t, kinds, 26)
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	rows := map[string]int{}
	for _, row := range regexp.MustCompile(`(?m)^//\t(Err\w+) .*`).FindAllSubmatch(doc, -1) {
		rows[string(row[1])]++
	}
	for name := range kinds {
		assert.Equal(t, 1, rows[name], "rows of %s", name)
	}
	assert.Len(t, rows, len(kinds))
	texts := map[string]string{}
	for name, text := range kinds {
		assert.Empty(t, texts[text], "%s says the same", name)
		texts[text] = name
	}
}
