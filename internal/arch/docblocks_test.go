package arch

import (
	"fmt"
	"go/ast"
	"go/doc"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// given has, for each package, the variables that the Go blocks of its docs use without
// declaring them. They become parameters of the functions that the blocks are compiled in.
var given = map[string]string{
	"backoff":         "image string",
	"credentials":     "ctx context.Context, ref reference.Reference, user, password, binDir string, pullSecrets []credentials.Secret, pullWith func(context.Context, credentials.Credential) (digest.Digest, error), s struct{ Namespace, Name, UID, Type string; Data map[string][]byte }",
	"index":           "contentType string, body []byte",
	"puller":          "ctx context.Context, node, podSecrets credentials.Keyring",
	"puller/records":  "runtime puller.Runtime",
	"puller/archive":  "ctx context.Context, store content.Store, file io.Reader",
	"puller/content":  "err error",
	"puller/gc":       "ctx context.Context, collector *gc.Collector, store content.Remover, runtime puller.Runtime, inUse func(context.Context) iter.Seq2[string, error]",
	"puller/registry": "store content.Store",
	"puller/serve":    "store *layout.Layout, recs *records.Dir",
	"puller/transfer": "store content.Store",
	"puller/unpack":   "ctx context.Context, store content.Store, manifest ocispec.Descriptor",
	"puller/verify":   "rt puller.Runtime",
	"pullpolicy":      "written pullpolicy.Policy, image string, presence pullpolicy.Presence",
}

// otherBlocks has the first words of blocks in docs that are not Go: tables, a grammar,
// settings, commands, names of files.
var otherBlocks = []string{
	"policy  ",
	"point  ",
	"step ",
	"Go ",
	"name  ",
	"# certs.d/",
	"# hosts.toml",
	"skopeo ",
	"certs.d/",
	"intents/",
	"image_manager/",
	"Pinned(",
	"application/vnd.",
	"-name ",
	"fault  ",
	"proxy_cache_path ",
	"vcl ",
}

// importable are the packages of other modules that Go blocks may name.
var importable = map[string]string{"context": "context", "errors": "errors", "io": "io", "iter": "iter", "log": "log", "http": "net/http", "time": "time", "digest": "github.com/opencontainers/go-digest", "ocispec": "github.com/opencontainers/image-spec/specs-go/v1"}

// Each Go block of the docs of the public packages becomes the body of a function. All these
// functions are compiled in one build.
func TestGoBlocksOfDocsCompile(t *testing.T) {
	imports := maps.Clone(importable)
	for _, dir := range publicPackages {
		imports[path.Base(dir)] = module + "/" + dir
	}
	files, used := map[string]string{}, map[string]bool{}
	for _, dir := range publicPackages {
		pkg, _ := parse(t, dir)
		var funcs strings.Builder
		for i, block := range docBlocks(pkg) {
			first, _, _ := strings.Cut(block, "\n")
			body, err := goBody(block)
			if n := slices.IndexFunc(otherBlocks, func(s string) bool { return strings.HasPrefix(block, s) }); n >= 0 {
				used[otherBlocks[n]] = true
				assert.Error(t, err, "%s: the block that begins with %q is Go", dir, first)
				continue
			}
			if assert.NoError(t, err, "%s: the block that begins with %q is not Go; if that is intended, list it in otherBlocks", dir, first) {
				// The block has a scope of its own, so it may declare a parameter again.
				fmt.Fprintf(&funcs, "func block%s%d(%s) {{\n//line %s, block %d:1\n%s\n}}\n", path.Base(dir), i, given[dir], dir, i+1, body)
			}
		}
		if funcs.Len() > 0 {
			files[path.Base(dir)+".go"] = withImports(t, funcs.String(), imports)
		} else {
			assert.Empty(t, given[dir], "%s has no Go block", dir)
		}
	}
	assert.Equal(t, len(publicPackages), len(files), "each package shows the call most users need")
	assert.ElementsMatch(t, otherBlocks, slices.Collect(maps.Keys(used)), "otherBlocks lists a block that does not exist")
	root, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	build(t, root, "docblocks", files)
}

// docBlocks returns the preformatted blocks of all doc comments of a package.
func docBlocks(pkg *doc.Package) []string {
	texts := []string{pkg.Doc}
	values := func(vs []*doc.Value) {
		for _, v := range vs {
			texts = append(texts, v.Doc)
		}
	}
	funcs := func(fs []*doc.Func) {
		for _, f := range fs {
			texts = append(texts, f.Doc)
		}
	}
	values(slices.Concat(pkg.Consts, pkg.Vars))
	funcs(pkg.Funcs)
	for _, typ := range pkg.Types {
		texts = append(texts, typ.Doc)
		values(slices.Concat(typ.Consts, typ.Vars))
		funcs(slices.Concat(typ.Funcs, typ.Methods))
	}
	var blocks []string
	for _, text := range texts {
		for _, block := range new(comment.Parser).Parse(text).Content {
			if code, ok := block.(*comment.Code); ok {
				blocks = append(blocks, code.Text)
			}
		}
	}
	return blocks
}

// goBody turns a block into the body of a function, which compiles if all that it names
// exists. goBody adds a use of each variable that the block declares, and of a block that is
// a single value, because the compiler refuses what is not used.
func goBody(block string) (string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "", "package p\nfunc _() {\n"+block+"\n}", 0)
	if err != nil {
		return "", err
	}
	if len(file.Decls) != 1 {
		return "", fmt.Errorf("more than statements")
	}
	statements := file.Decls[0].(*ast.FuncDecl).Body.List
	if len(statements) == 1 {
		if lone, ok := statements[0].(*ast.ExprStmt); ok {
			if _, call := lone.X.(*ast.CallExpr); !call {
				return "_ = " + block, nil
			}
		}
	}
	body := block
	for _, name := range declared(statements) {
		body += "\n_ = " + name
	}
	return body, nil
}

// declared returns the variables that statements declare, without those that nested
// statements declare.
func declared(statements []ast.Stmt) []string {
	var names []string
	add := func(e ast.Expr) {
		if id, ok := e.(*ast.Ident); ok && id.Name != "_" {
			names = append(names, id.Name)
		}
	}
	for _, s := range statements {
		switch s := s.(type) {
		case *ast.AssignStmt:
			if s.Tok == token.DEFINE {
				for _, e := range s.Lhs {
					add(e)
				}
			}
		case *ast.DeclStmt:
			for _, spec := range s.Decl.(*ast.GenDecl).Specs {
				if v, ok := spec.(*ast.ValueSpec); ok {
					for _, id := range v.Names {
						add(id)
					}
				}
			}
		}
	}
	return names
}

// withImports adds the package clause and the imports that funcs need.
func withImports(t *testing.T, funcs string, imports map[string]string) string {
	file, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+funcs, 0)
	require.NoError(t, err)
	named := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := sel.X.(*ast.Ident); ok && imports[id.Name] != "" {
				named[id.Name] = true
			}
		}
		return true
	})
	source := "package docblocks\n"
	for _, name := range slices.Sorted(maps.Keys(named)) {
		source += fmt.Sprintf("import %s %q\n", name, imports[name])
	}
	return source + funcs
}
