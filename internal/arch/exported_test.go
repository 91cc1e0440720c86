package arch

import (
	"go/doc"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// withoutExample lists exported types and functions that need no Example, and why.
var withoutExample = map[string]string{}

// Each exported name has a doc comment. Each exported type and each exported function has
// an Example with checked output; a method needs none.
func TestExportedNamesHaveDocsAndExamples(t *testing.T) {
	for _, dir := range slices.Concat(publicPackages, publicModules) {
		pkg, _ := parse(t, dir)
		assert.NotEmpty(t, pkg.Doc, "package %s has no package comment", dir)
		typ := func(name string, d string, examples []*doc.Example) {
			full := dir + "." + name
			assert.NotEmpty(t, strings.TrimSpace(d), "%s has no doc comment", full)
			if withoutExample[full] == "" {
				assert.True(t, slices.ContainsFunc(examples, func(e *doc.Example) bool { return e.Output != "" }), "%s has no Example with output", full)
			} else {
				assert.Empty(t, examples, "%s has an Example; take it off the list", full)
			}
		}
		for _, f := range pkg.Funcs {
			typ(f.Name, f.Doc, f.Examples)
		}
		for _, ty := range pkg.Types {
			all := ty.Examples
			for _, m := range ty.Methods {
				assert.NotEmpty(t, strings.TrimSpace(m.Doc), "%s.%s.%s has no doc comment", dir, ty.Name, m.Name)
				all = append(all, m.Examples...)
			}
			for _, f := range ty.Funcs {
				all = append(all, f.Examples...)
			}
			typ(ty.Name, ty.Doc, all)
			for _, f := range ty.Funcs {
				typ(f.Name, f.Doc, f.Examples)
			}
		}
	}
}
