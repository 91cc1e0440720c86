package oracle

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/credentialprovider"
	"k8s.io/kubernetes/pkg/credentialprovider/secrets"
)

var (
	credHosts = []string{
		"r.io", "r.io", "*.io", "a.r.io", "*.r.io", "a.*.io", "*.*.io", "r*.io", "**.io", "*", "*:5000", "r.io:5000", "r.io:", "r.io:http", "r.io:*",
		"R.io", "docker.io", "index.docker.io", "registry-1.docker.io", "*.docker.io", "localhost", "localhost:5000", "[::1]", "[::1]:5000", "[::*]", "10.0.0.1",
		"r?.io", "r[a-z].io", "r[", `r\.io`, "u:p@r.io", "r.io#x", "r.io?x=y", "r io", "", "::1", "{r,q}.io", "r%2eio",
	}
	credPaths   = []string{"", "", "", "/", "/team", "/team", "/team/", "/team/app", "/team-b", "/te%61m", "/*", "//team", "/team/../x", "/v1/", "/v1", "/v2/team", "/library", "/x?y", "/x#y"}
	credSchemes = []string{"", "", "", "https://", "http://", "HTTPS://", "https://https://", "ftp://", "//"}
	credImages  = []string{
		"r.io/team/app", "r.io/team-b/app", "r.io/team", "r.io/x", "a.r.io/team/app", "a.b.io/x", "r.io:5000/team/app", "localhost/x", "localhost:5000/x", "[::1]:5000/x",
		"10.0.0.1/x", "nginx", "library/nginx", "team/app", "docker.io/team/app", "registry-1.docker.io/team/app", "q.io/x",
	}
	matchImages = append([]string{"", "r.io", "R.IO/x", "r.io/te%61m", "[::1]/x", "[::1]", "::1/x", "r.io:/x", "r.io:http/x", "r.io?/x", "u@r.io/x", "r io/x", "/x", "*.io/x", "r.io//x"}, credImages...)
)

func pickOf[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// TestMatchIsTheKubelets compares Match under the kubelet's rules with the kubelet's
// URLsMatchStr, for all combinations of the parts above, and for random ones.
func TestMatchIsTheKubelets(t *testing.T) {
	rules := credentials.Rules{Kubelet: true}
	pairs, matches := 0, 0
	check := func(key, name string) {
		want, wantErr := credentialprovider.URLsMatchStr(key, name)
		got, err := credentials.Match(key, name, rules)
		require.Equal(t, want, got, "Match(%q, %q)", key, name)
		// A bad pattern is an error of the kubelet only if path.Match reads it.
		if _, ours := credentials.Match(key, name, credentials.Rules{}); wantErr == nil || ours == nil {
			require.Equal(t, wantErr != nil, err != nil, "Match(%q, %q): %v, %v", key, name, wantErr, err)
		}
		if pairs++; want {
			matches++
		}
	}
	for _, host := range credHosts {
		for _, path := range credPaths {
			for _, image := range matchImages {
				check(host+path, image)
			}
		}
	}
	r := rand.New(rand.NewPCG(5, 6))
	for range 300_000 {
		random := func() string {
			var b strings.Builder
			for range 1 + r.IntN(8) {
				b.WriteByte("abr.io*/:05[]?%@#-"[r.IntN(18)])
			}
			return b.String()
		}
		check(random(), random())
	}
	t.Logf("%d pairs, %d of them match", pairs, matches)
	assert.Greater(t, matches, 300)
}

// TestMatchDiffersWhereItSays checks that Match under its own rules gives the kubelet's answer,
// except where its documentation names a difference. The keys and names here have only small
// letters, only the wildcard *, paths that end at a slash, and not a host of Docker Hub.
func TestMatchDiffersWhereItSays(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	label := func(alphabet string) string {
		var b strings.Builder
		for range 1 + r.IntN(3) {
			b.WriteByte(alphabet[r.IntN(len(alphabet))])
		}
		return b.String()
	}
	host := func(alphabet string) string {
		parts := make([]string, 1+r.IntN(3))
		for i := range parts {
			parts[i] = label(alphabet)
		}
		return strings.Join(parts, ".") + pickOf(r, []string{"", "", ":5000", ":80"})
	}
	matches := 0
	for range 300_000 {
		key := host("ab-*") + pickOf(r, []string{"", "", "/", "/a/", "/a/b/"})
		name := host("ab-") + pickOf(r, []string{"/a/b", "/a/b/c", "/ab", "/b"})
		want, wantErr := credentialprovider.URLsMatchStr(key, name)
		got, err := credentials.Match(key, name, credentials.Rules{})
		require.NoError(t, wantErr)
		require.NoError(t, err)
		require.Equal(t, want, got, "Match(%q, %q)", key, name)
		if want {
			matches++
		}
	}
	assert.Greater(t, matches, 1000)
}

// quietKlog discards what the kubelet's code logs, such as each key that it cannot read.
func quietKlog(t *testing.T) {
	quiet := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(quiet)
	require.NoError(t, quiet.Parse([]string{"-logtostderr=false", "-stderrthreshold=FATAL"}))
	klog.SetOutput(io.Discard)
}

// TestLookupIsTheKubelets compares the candidates, and their order, of the kubelet's keyring with
// those of package credentials under the kubelet's rules. The keyrings have secrets and a node's
// config. Each secret has one key, because the kubelet takes keys of one file that mean the same
// in random order.
func TestLookupIsTheKubelets(t *testing.T) {
	rules := credentials.Rules{Kubelet: true}
	quietKlog(t)
	r := rand.New(rand.NewPCG(9, 10))
	found := 0
	for range 3000 {
		var theirs []v1.Secret
		var ours []credentials.Secret
		for i := range r.IntN(8) {
			key := pickOf(r, credSchemes) + pickOf(r, credHosts) + pickOf(r, credPaths)
			data := configOf(t, key, fmt.Sprintf("user%d", i))
			theirs = append(theirs, v1.Secret{Type: v1.SecretTypeDockerConfigJson, Data: map[string][]byte{v1.DockerConfigJsonKey: data}})
			ours = append(ours, credentials.Secret{Type: credentials.TypeDockerConfigJSON, Data: credentials.ConcealData(theirs[i].Data)})
		}
		nodeKey := pickOf(r, credSchemes) + pickOf(r, credHosts) + pickOf(r, credPaths)
		node := &credentialprovider.BasicDockerKeyring{}
		var doc credentialprovider.DockerConfigJSON
		require.NoError(t, json.Unmarshal(configOf(t, nodeKey, "node"), &doc))
		node.Add(nil, doc.Auths)
		their, err := secrets.MakeDockerKeyring(theirs, node)
		require.NoError(t, err)
		ourNode, err := credentials.ParseFile(configOf(t, nodeKey, "node"), "config.json", rules)
		require.NoError(t, err)
		our := credentials.Join(credentials.FromSecrets(ours, rules), ourNode)

		for _, image := range credImages {
			ref := reference.MustParse(image)
			var want, got []string
			list, _ := their.Lookup(ref.Name())
			for _, c := range list {
				want = append(want, c.Username+":"+c.Password)
			}
			for c, err := range our.Lookup(t.Context(), ref) {
				require.NoError(t, err)
				got = append(got, c.Username+":"+c.Password.Reveal())
			}
			require.Equal(t, want, got, "%s of %s", image, keysOf(ours, nodeKey))
			found += len(want)
		}
	}
	t.Logf("%d candidates", found)
	assert.Greater(t, found, 5_000)
}

func configOf(t *testing.T, key, username string) []byte {
	data, err := json.Marshal(map[string]any{"auths": map[string]any{key: map[string]string{"username": username, "password": "p"}}})
	require.NoError(t, err)
	return data
}

func keysOf(list []credentials.Secret, node string) string {
	var keys []string
	for _, s := range list {
		keys = append(keys, s.Data[credentials.KeyDockerConfigJSON].Reveal())
	}
	return strings.Join(append(keys, node), " ")
}
