package content_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/content"
)

func TestErrorMatchesItsReasonAndCause(t *testing.T) {
	cause := errors.New("404 Not Found")
	err := fmt.Errorf("layer: %w", &content.Error{Reason: content.ErrNotFound, Host: "reg.example:5000", Err: cause})
	assert.Equal(t, "layer: reg.example:5000: not found: 404 Not Found", err.Error())
	assert.ErrorIs(t, err, content.ErrNotFound)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.NotErrorIs(t, err, fs.ErrPermission)
	assert.ErrorIs(t, err, cause)
	assert.Equal(t, content.ErrNotFound, content.ReasonOf(err))
	assert.ErrorIs(t, content.ErrDenied, fs.ErrPermission)
	assert.ErrorIs(t, content.ErrUnauthorized, fs.ErrPermission)
	assert.NotErrorIs(t, content.ErrTimeout, fs.ErrPermission)

	plain := &content.Error{Reason: content.ErrRateLimited, RetryAfter: time.Minute}
	assert.Equal(t, "rate limited", plain.Error())
	assert.ErrorIs(t, plain, content.ErrRateLimited)
	assert.Equal(t, content.Reason(""), content.ReasonOf(cause))
	assert.Equal(t, content.Reason(""), content.ReasonOf(nil))

	inner := &content.Error{Reason: content.ErrNetwork, Err: cause}
	outer := &content.Error{Reason: content.ErrStore, Err: inner}
	assert.Equal(t, content.ErrStore, content.ReasonOf(outer), "the outermost reason counts")
}

// TestPackageCommentListsEachReasonOnce holds that the table of the package comment has each
// constant once, and that the texts of any two constants differ.
func TestPackageCommentListsEachReasonOnce(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	require.NoError(t, err)
	reasons := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Reason" && len(spec.Values) == 1 {
				reasons[spec.Names[0].Name] = types.ExprString(spec.Values[0])
			}
		}
		return true
	})
	assert.Len(t, reasons, 27)
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	rows := map[string]int{}
	for _, row := range regexp.MustCompile(`(?m)^//\t(Err\w+) .*`).FindAllSubmatch(doc, -1) {
		rows[string(row[1])]++
	}
	for name := range reasons {
		assert.Equal(t, 1, rows[name], "rows of %s", name)
	}
	assert.Len(t, rows, len(reasons))
	texts := map[string]string{}
	for name, text := range reasons {
		assert.Empty(t, texts[text], "%s has the same text", name)
		texts[text] = name
	}
}
