package credentials

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestEachReasonIsInTheTableOfReasons holds that each exported Reason of the package's source
// says whether it is a warning. A Reason that is not in the table would count as a
// malformed source.
func TestEachReasonIsInTheTableOfReasons(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "problem.go", nil, 0)
	require.NoError(t, err)
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !spec.Names[0].IsExported() {
			return true
		}
		typ, ok := spec.Type.(*ast.Ident)
		if !ok || typ.Name != "Reason" {
			return true
		}
		declared++
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		require.NoError(t, err)
		assert.Contains(t, reasons, Reason(text), spec.Names[0].Name)
		return true
	})
	assert.Len(t, reasons, declared)
}

func TestAnErrorIsAWarningIfTheTableSaysSo(t *testing.T) {
	for reason, isWarning := range reasons {
		assert.Equal(t, isWarning, (&Error{Err: warning(reason, "found")}).Warning(), reason)
	}
	assert.False(t, (&Error{Err: errNoColon}).Warning(), "an error without a Reason")
	assert.False(t, (&Error{}).Warning())
}
