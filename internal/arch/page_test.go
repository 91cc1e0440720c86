package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPageTable holds that what the README names as `package.Name` exists: tests,
// examples, functions, methods and fields.
func TestPageTable(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	require.NoError(t, err)
	_, page, found := strings.Cut(string(text), "\n## Security\n")
	require.True(t, found, "the README has no section Security")
	checked := 0
	declared := map[string]map[string]bool{}
	for _, m := range regexp.MustCompile("`((?:examples/)?[a-z]+)\\.([A-Z][A-Za-z0-9_.]*)`").FindAllStringSubmatch(page, -1) {
		dir := m[1]
		if _, err := os.Stat(filepath.Join("..", "..", dir)); err != nil {
			dir = "puller/" + dir
		}
		if declared[dir] == nil {
			declared[dir] = declarations(t, filepath.Join("..", "..", dir))
		}
		assert.True(t, declared[dir][m[2]], "the README names %s.%s, which does not exist", m[1], m[2])
		checked++
	}
	assert.Greater(t, checked, 100)
}

// declarations are the names that the files of a directory declare: functions,
// types, constants, variables, and as Type.Name methods and fields.
func declarations(t *testing.T, dir string) map[string]bool {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	names := map[string]bool{}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		for _, decl := range f.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				names[receiver(d)+d.Name.Name] = true
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						names[spec.Name.Name] = true
						fields(spec, names)
					case *ast.ValueSpec:
						for _, id := range spec.Names {
							names[id.Name] = true
						}
					}
				}
			}
		}
	}
	return names
}

func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if generic, ok := typ.(*ast.IndexExpr); ok {
		typ = generic.X
	}
	if name, ok := typ.(*ast.Ident); ok {
		return name.Name + "."
	}
	return ""
}

func fields(ts *ast.TypeSpec, names map[string]bool) {
	if s, ok := ts.Type.(*ast.StructType); ok {
		for _, field := range s.Fields.List {
			for _, name := range field.Names {
				names[ts.Name.Name+"."+name.Name] = true
			}
		}
	}
}
