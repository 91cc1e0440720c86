package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/pullkit/pullkit"

// arrows says which of our packages and which modules each package may import
// outside its tests. Every package may import the standard library, except what
// forbidden lists, and our internal packages.
var arrows = map[string][]string{
	"reference":                      {"github.com/opencontainers/go-digest"},
	"pullpolicy":                     {"reference"},
	"backoff":                        {},
	"index":                          {"github.com/opencontainers/image-spec", "github.com/opencontainers/go-digest"},
	"credentials":                    {"credentials/internal/diagnose", "credentials/internal/keys", "reference"},
	"credentials/internal/diagnose":  {"credentials/internal/keys", "sigs.k8s.io/yaml"},
	"credentials/internal/keys":      {"github.com/gobwas/glob"},
	"puller/records":                 {"credentials", "github.com/opencontainers/go-digest"},
	"puller/content":                 {"reference", "credentials", "index", "github.com/opencontainers/image-spec", "github.com/opencontainers/go-digest"},
	"puller":                         {"reference", "pullpolicy", "credentials", "backoff", "index", "puller/content", "puller/records", "github.com/opencontainers/image-spec", "github.com/opencontainers/go-digest"},
	"puller/registry":                {"puller/content", "reference", "credentials", "index", "github.com/opencontainers/image-spec", "github.com/opencontainers/go-digest"},
	"puller/registry/certsd":         {"puller/registry", "github.com/pelletier/go-toml/v2"},
	"puller/layout":                  {"puller/content", "reference", "github.com/opencontainers/image-spec", "github.com/opencontainers/go-digest"},
	"puller/transfer":                {"puller/transfer/internal/fetch", "puller", "puller/content", "puller/registry", "index", "reference", "credentials", "github.com/opencontainers/image-spec", "github.com/opencontainers/go-digest"},
	"puller/transfer/internal/fetch": {"puller/content", "github.com/opencontainers/image-spec", "github.com/opencontainers/go-digest"},
	"puller/pullertest":              {"*"},
	"internal/arch":                  {},
	"internal/await":                 {},
	"internal/checked":               {"puller/content"},
	"internal/realtest":              {"*"},
	"internal/verify":                {"github.com/opencontainers/go-digest"},
	"internal/ports":                 {},
	"internal/expiring":              {},
	"internal/fakeregistry":          {"github.com/opencontainers/go-digest"},
	"internal/subprocess":            {},
	"internal/panics":                {},
	"internal/redact":                {},
	"internal/regular":               {},
	"internal/rounds":                {},
	"internal/share":                 {},
	"internal/spans":                 {},
	"internal/strictjson":            {},
	"internal/strictyaml":            {"sigs.k8s.io/yaml"},
	"internal/ocilayout":             {"puller/content", "reference", "github.com/opencontainers/image-spec", "github.com/opencontainers/go-digest"},
	"puller/archive":                 {"puller/content", "reference", "github.com/opencontainers/image-spec", "github.com/opencontainers/go-digest"},
	"puller/serve":                   {"puller", "puller/content", "puller/records", "index", "pullpolicy", "reference", "github.com/opencontainers/image-spec", "github.com/opencontainers/go-digest"},
	"puller/verify":                  {"puller/content", "credentials", "pullpolicy", "index", "reference", "github.com/opencontainers/image-spec"},
	"puller/unpack":                  {"puller/content", "index", "github.com/opencontainers/image-spec", "github.com/opencontainers/go-digest"},
	"puller/rootfs":                  {"puller", "puller/content", "index", "github.com/containerd/containerd/v2", "github.com/containerd/log", "github.com/klauspost/compress", "github.com/sirupsen/logrus", "github.com/moby/sys/userns", "github.com/opencontainers/image-spec", "github.com/opencontainers/go-digest"},
	"puller/gc":                      {"puller/content", "puller/layout", "reference", "github.com/opencontainers/image-spec", "github.com/opencontainers/go-digest"},
	"internal/keylock":               {},
	"internal/newdir":                {},
	"internal/mediatype":             {"github.com/opencontainers/image-spec"},
	"internal/disk":                  {},
	"internal/disk/disktest":         {},
	"internal/scripted":              {"*"},
}

// forbidden names parts of the standard library that only some packages may import.
var forbidden = map[string][]string{
	"os/exec":  {"credentials", "internal/subprocess", "internal/realtest"},
	"net/http": {"puller/registry", "puller/registry/certsd", "puller/serve", "puller/pullertest", "internal/realtest", "internal/fakeregistry", "internal/scripted"},
	"regexp":   {"internal/scripted"},
}

func TestPackagesImportOnlyWhatTheirArrowsAllow(t *testing.T) {
	for pkg, imports := range packages(t) {
		if strings.HasPrefix(pkg, "examples/") {
			continue // programs may import everything that a user can
		}
		allowed, known := arrows[pkg]
		require.True(t, known, "package %s has no row in the table of arrows", pkg)
		for imp, file := range imports {
			if own, ok := strings.CutPrefix(imp, module+"/"); ok {
				assert.True(t, strings.HasPrefix(own, "internal/") || reaches(allowed, own), "%s: %s may not import %s", file, pkg, own)
			} else if strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") {
				assert.True(t, reaches(allowed, imp), "%s: %s may not import %s", file, pkg, imp)
			} else if users, ok := forbidden[imp]; ok {
				assert.Contains(t, users, pkg, "%s imports %s", file, imp)
			}
		}
	}
}

func reaches(allowed []string, imp string) bool {
	return slices.ContainsFunc(allowed, func(a string) bool {
		return a == "*" || a == imp || strings.Contains(a, ".") && strings.HasPrefix(imp, a+"/")
	})
}

// packages returns each package of the root module and of publicModules with its imports outside tests. The
// value of an import is a file that has it.
func packages(t *testing.T) map[string]map[string]string {
	root := filepath.Join("..", "..")
	pkgs := map[string]map[string]string{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if rel != "." && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")) {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil && rel != "." && !slices.Contains(publicModules, rel) {
				return filepath.SkipDir // a nested module
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		pkg := path.Dir(rel)
		if pkgs[pkg] == nil {
			pkgs[pkg] = map[string]string{}
		}
		for _, spec := range file.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			pkgs[pkg][imp] = rel
		}
		return nil
	})
	require.NoError(t, err)
	return pkgs
}

// The entries next to go.mod are compared with a list.
func TestTheTopLevelHasOnlyTheListedEntries(t *testing.T) {
	want := []string{"LICENSE", "README.md", "backoff", "credentials", "examples", "findings", "go.mod", "go.sum", "index", "internal", "puller", "pullpolicy", "reference"}
	entries, err := os.ReadDir(filepath.Join("..", ".."))
	require.NoError(t, err)
	var got []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			got = append(got, e.Name())
		}
	}
	assert.Equal(t, want, got)
}
