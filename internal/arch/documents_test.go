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

// A Markdown page names a test, an example, a function, a method or a field as
// `package.Name`, or shows a call such as `package.Name(x)`. What it names exists.
func TestNamesInDocumentsExist(t *testing.T) {
	root := filepath.Join("..", "..")
	pages, err := filepath.Glob(filepath.Join(root, "internal", "docs", "*.md"))
	require.NoError(t, err)
	require.Contains(t, pages, filepath.Join(root, "internal", "docs", "page.md"))
	pages = append(pages, filepath.Join(root, "README.md"), filepath.Join(root, ".github", "SECURITY.md"))
	name := regexp.MustCompile("`&?((?:examples/)?[a-z]+)\\.([A-Z][A-Za-z0-9_.]*)[`({]")
	declared := map[string]map[string]bool{}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		current, _, _ := strings.Cut(string(text), "\n## Renamed\n") // the table of former names
		checked := 0
		for _, m := range name.FindAllStringSubmatch(current, -1) {
			dir, ok := packageDir(root, m[1])
			if !ok {
				continue // a name of the standard library or of another module
			}
			if declared[dir] == nil {
				declared[dir] = declarations(t, dir)
			}
			assert.True(t, declared[dir][m[2]], "%s names %s.%s, which does not exist", page, m[1], m[2])
			checked++
		}
		if filepath.Base(page) == "page.md" {
			assert.Greater(t, checked, 100)
		}
	}
}

// Each function, type or method that pull.md names as `package.name` exists, hidden ones
// included. pull.md names something of each package that a pull goes through.
func TestNamesInPullStepByStepExist(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "internal", "docs", "pull.md"))
	require.NoError(t, err)
	declared, named := map[string]map[string]bool{}, map[string]int{}
	for _, m := range regexp.MustCompile("`([a-z]+)\\.([A-Za-z0-9_.]+)`").FindAllStringSubmatch(string(text), -1) {
		dir, ok := packageDir(root, m[1])
		if !ok {
			continue // a file, or a host in the example
		}
		if declared[dir] == nil {
			declared[dir] = declarations(t, dir)
		}
		assert.True(t, declared[dir][m[2]], "pull.md names %s.%s, which does not exist", m[1], m[2])
		named[m[1]]++
	}
	for _, pkg := range []string{"credentials", "reference", "pullpolicy", "index", "puller", "records", "transfer", "fetch", "registry", "layout", "content", "share"} {
		assert.NotZero(t, named[pkg], "pull.md names nothing of package %s", pkg)
	}
}

// packageDir returns the directory of one of our packages by its name.
func packageDir(root, name string) (string, bool) {
	for _, parent := range []string{"", "puller", "internal", "puller/transfer/internal", "credentials/internal"} {
		dir := filepath.Join(root, parent, filepath.FromSlash(name))
		if _, err := os.Stat(dir); err == nil {
			return dir, true
		}
	}
	return "", false
}

// Each row of the tables of page.md has three cells, and each section of the Kubernetes page
// has its rows.
func TestTheTablesOfThePageHaveTheirForm(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "page.md"))
	require.NoError(t, err)
	var found []string
	rows := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "|") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|\n"), " | ")
		assert.Len(t, cells, 3, "%s", line)
		if section, ok := strings.CutPrefix(cells[0], " **"); ok {
			section, _, _ = strings.Cut(section, "**")
			found = append(found, section)
		}
		rows++
	}
	assert.Greater(t, rows, 100)
	assert.Equal(t, sections, found)
}

// sections are the headings of the Kubernetes page "Images", in its order.
var sections = []string{
	"Images",
	"Image names",
	"Updating images",
	"Image pull policy",
	"Default image pull policy",
	"Required image pull",
	"ImagePullBackOff",
	"Image pull per runtime class",
	"Serial and parallel image pulls",
	"Maximum parallel image pulls",
	"Multi-architecture images",
	"Using a private registry",
	"Specifying imagePullSecrets on a Pod",
	"Referring to an imagePullSecrets on a Pod",
	"Configuring nodes to authenticate to a private registry",
	"Kubelet credential provider",
	"Interpretation of config.json",
	"Pre-pulled images",
	"Ensure image pull credential verification",
	"Use cases",
	"Legacy built-in kubelet credential provider",
	"What's next",
}

// declarations returns the names that the files of a directory declare: functions, types,
// constants and variables, and methods and fields as Type.Name.
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
	switch generic := typ.(type) {
	case *ast.IndexExpr:
		typ = generic.X
	case *ast.IndexListExpr:
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
