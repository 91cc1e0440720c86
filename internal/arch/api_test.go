package arch

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata/api.txt again")

// The exported API is compared with testdata/api.txt, so that each change of it is seen.
// After an intended change, run the test with -update.
func TestTheExportedAPIIsTheListedOne(t *testing.T) {
	var got bytes.Buffer
	for _, dir := range slices.Concat(publicPackages, publicModules) {
		fmt.Fprintf(&got, "package %s\n", dir)
		for _, line := range exported(t, dir) {
			fmt.Fprintf(&got, "\t%s\n", line)
		}
	}
	golden := filepath.Join("testdata", "api.txt")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(golden, got.Bytes(), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	assert.Empty(t, changedLines(string(want), got.String()), "the exported API changed; if the change is intended, run go test ./internal/arch -update")
}

// changedLines compares two lists, each of packages with their lines. It returns the lines
// that only the first has, after a minus sign, and those that only the second has, after a
// plus sign. Each is with its package.
func changedLines(before, after string) []string {
	old, now := linesOf(before), linesOf(after)
	var changes []string
	for line, n := range old {
		if n > now[line] {
			changes = append(changes, "- "+line)
		}
	}
	for line, n := range now {
		if n > old[line] {
			changes = append(changes, "+ "+line)
		}
	}
	slices.SortFunc(changes, func(a, b string) int { return cmp.Or(cmp.Compare(a[2:], b[2:]), cmp.Compare(b, a)) })
	return changes
}

// linesOf counts the lines of a list, each with its package before it.
func linesOf(list string) map[string]int {
	count := map[string]int{}
	pkg := ""
	for line := range strings.Lines(list) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "package "); ok {
			pkg = name
		}
		count[pkg+": "+strings.TrimSpace(line)]++
	}
	return count
}

func TestOnlyTheChangedLinesOfTheAPIAreReported(t *testing.T) {
	list := "package a\n\tfunc F()\n\tfunc G()\npackage b\n\tfunc F()\n"
	assert.Empty(t, changedLines(list, list))
	assert.Equal(t, []string{"+ a: const N", "- a: func G()", "+ a: func G() error", "- b: func F()"},
		changedLines(list, "package a\n\tconst N\n\tfunc F()\n\tfunc G() error\npackage b\n"))
	assert.Equal(t, []string{"+ c: func F()", "+ c: package c"}, changedLines(list, list+"package c\n\tfunc F()\n"))
}

var publicPackages = []string{
	"reference",
	"pullpolicy",
	"backoff",
	"index",
	"credentials",
	"puller",
	"puller/records",
	"puller/content",
	"puller/registry",
	"puller/registry/certsd",
	"puller/layout",
	"puller/archive",
	"puller/unpack",
	"puller/serve",
	"puller/gc",
	"puller/transfer",
	"puller/verify",
	"puller/pullertest",
}

// publicModules are the public packages that are modules of their own, because they need
// libraries that other users do not need.
var publicModules = []string{"puller/rootfs"}

// exported lists the exported declarations of a package, one a line, sorted.
func exported(t *testing.T, dir string) []string {
	pkg, fset := parse(t, dir)
	var lines []string
	add := func(prefix string, node any) {
		var b bytes.Buffer
		require.NoError(t, printer.Fprint(&b, fset, node))
		lines = append(lines, strings.Join(strings.Fields(prefix+b.String()), " "))
	}
	fn := func(f *doc.Func) {
		decl := *f.Decl
		decl.Doc, decl.Body = nil, nil
		add("", &decl)
	}
	values := func(vs []*doc.Value) {
		for _, v := range vs {
			for _, spec := range v.Decl.Specs {
				s := spec.(*ast.ValueSpec)
				for _, name := range s.Names {
					if name.IsExported() {
						lines = append(lines, v.Decl.Tok.String()+" "+name.Name)
					}
				}
			}
		}
	}
	values(pkg.Consts)
	values(pkg.Vars)
	for _, f := range pkg.Funcs {
		fn(f)
	}
	for _, typ := range pkg.Types {
		spec := typ.Decl.Specs[0].(*ast.TypeSpec)
		lines = append(lines, members(t, fset, spec)...)
		values(typ.Consts)
		values(typ.Vars)
		for _, f := range slices.Concat(typ.Funcs, typ.Methods) {
			fn(f)
		}
	}
	slices.Sort(lines)
	return lines
}

// members returns the lines of a type: one for the type, and one for each exported field or
// method of an interface.
func members(t *testing.T, fset *token.FileSet, spec *ast.TypeSpec) []string {
	text := func(node any) string {
		var b bytes.Buffer
		require.NoError(t, printer.Fprint(&b, fset, node))
		return strings.Join(strings.Fields(b.String()), " ")
	}
	head := "type " + spec.Name.Name
	if spec.TypeParams != nil {
		var params []string
		for _, p := range spec.TypeParams.List {
			for _, n := range p.Names {
				params = append(params, n.Name+" "+text(p.Type))
			}
		}
		head += "[" + strings.Join(params, ", ") + "]"
	}
	var fields *ast.FieldList
	switch typ := spec.Type.(type) {
	case *ast.StructType:
		head, fields = head+" struct", typ.Fields
	case *ast.InterfaceType:
		head, fields = head+" interface", typ.Methods
	default:
		return []string{head + " " + text(spec.Type)}
	}
	lines := []string{head}
	for _, f := range fields.List {
		if len(f.Names) == 0 {
			lines = append(lines, head+": "+text(f.Type))
		}
		for _, n := range f.Names {
			if n.IsExported() {
				lines = append(lines, head+": "+n.Name+" "+text(f.Type))
			}
		}
	}
	return lines
}

// parse returns the documentation of a package of the root module as go doc has it on Linux,
// with the Examples of its tests.
func parse(t *testing.T, dir string) (*doc.Package, *token.FileSet) {
	fset := token.NewFileSet()
	root := filepath.Join("..", "..", filepath.FromSlash(dir))
	names, err := fs.Glob(os.DirFS(root), "*.go")
	require.NoError(t, err)
	var files []*ast.File
	for _, name := range names {
		if other := strings.TrimSuffix(name, ".go"); strings.HasSuffix(other, "_windows") || strings.HasSuffix(other, "_darwin") || strings.HasSuffix(other, "_other") {
			continue
		}
		f, err := parser.ParseFile(fset, filepath.Join(root, name), nil, parser.ParseComments)
		require.NoError(t, err)
		files = append(files, f)
	}
	pkg, err := doc.NewFromFiles(fset, files, module+"/"+dir)
	require.NoError(t, err)
	return pkg, fset
}
