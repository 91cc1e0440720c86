package registry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/internal/fakeregistry"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/registry/certsd"
	"github.com/pullkit/pullkit/reference"
)

var _ content.ReferrerLister = (*registry.Client)(nil)

const (
	subjectHex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	subject    = digest.Digest("sha256:" + subjectHex)
	sigType    = "application/vnd.example.signature"
	cosignSig  = "application/vnd.dev.cosign.artifact.sig.v1+json"
)

// refers is a descriptor of a manifest, whose digest is made from its name.
func refers(name, artifactType string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: fakeregistry.SHA256([]byte(name)), Size: int64(len(name)), ArtifactType: artifactType}
}

func listOf(entries ...ocispec.Descriptor) string {
	data, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: append([]ocispec.Descriptor{}, entries...)})
	if err != nil {
		panic(err)
	}
	return string(data)
}

// answers serves texts by path and query; other requests are answered with 404.
func answers(texts map[string]string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, ok := texts[r.URL.RequestURI()]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		for i := 0; i < len(header); i += 2 {
			if header[i] == r.URL.RequestURI() {
				w.Header().Add("Link", header[i+1])
			}
		}
		fmt.Fprint(w, body)
	}
}

// oneHost returns a client of reg.example, which h serves.
func oneHost(h http.HandlerFunc) (*world, *registry.Client) {
	w := newWorld(map[string]http.HandlerFunc{"https://reg.example": h})
	return w, mustClient(registry.Config{WrapTransport: instead(w), Retries: -1})
}

var appRepo = content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: robot}

const api = "/v2/app/referrers/sha256:" + subjectHex
const tagPath = "/v2/app/manifests/sha256-" + subjectHex

func TestReferrersAreListedByTheAPI(t *testing.T) {
	a, b := refers("a", sigType), refers("b", "application/spdx+json")
	w, c := oneHost(answers(map[string]string{
		api: listOf(a, b, a),
		api + "?artifactType=" + url.QueryEscape(sigType): listOf(a, b), // the registry ignores the filter
	}))
	got, err := c.Referrers(t.Context(), appRepo, subject, "")
	require.NoError(t, err)
	assert.Equal(t, []ocispec.Descriptor{a, b}, got, "each digest once")
	assert.Equal(t, []string{regURL + api, regURL + tagPath + ".sig", regURL + tagPath + ".att", regURL + tagPath + ".sbom"}, w.asked())

	got, err = c.Referrers(t.Context(), appRepo, subject, sigType)
	require.NoError(t, err)
	assert.Equal(t, []ocispec.Descriptor{a}, got, "the Client compares the types itself")
	assert.Equal(t, []string{regURL + api + "?artifactType=" + url.QueryEscape(sigType)}, w.asked(), "cosign's tags have other types")

	got, err = c.Referrers(t.Context(), appRepo, refers("other", "").Digest, sigType)
	require.NoError(t, err)
	assert.Empty(t, got)
}

func TestAllPagesOfReferrersAreRead(t *testing.T) {
	a, b, d := refers("a", sigType), refers("b", sigType), refers("d", sigType)
	first := api + "?artifactType=" + url.QueryEscape(sigType)
	w, c := oneHost(answers(map[string]string{first: listOf(a), "/v2/app/referrers/page?x=2": listOf(b), "/v2/else?last=%2F": listOf(d)},
		first, `</v2/app/referrers/sha256:other>; rel="prev", </v2/app/referrers/page?x=2>; title="a, \"b\"; c"; rel="last Next"`,
		"/v2/app/referrers/page?x=2", `<https://reg.example/v2/else?last=%2F>;rel=next`))
	got, err := c.Referrers(t.Context(), appRepo, subject, sigType)
	require.NoError(t, err)
	assert.Equal(t, []ocispec.Descriptor{a, b, d}, got)
	assert.Equal(t, []string{regURL + first, regURL + "/v2/app/referrers/page?x=2", regURL + "/v2/else?last=%2F"}, w.asked())
}

// Requests for further pages at a mirror have the registry's name as ns, whether or not the
// mirror repeats it in its link.
func TestPagesOfAMirrorKeepTheRegistrysName(t *testing.T) {
	a, b, d := refers("a", sigType), refers("b", sigType), refers("d", sigType)
	filter := "artifactType=" + url.QueryEscape(sigType)
	w := newWorld(map[string]http.HandlerFunc{"https://m.example": answers(map[string]string{
		api + "?ns=reg.example&" + filter: listOf(a), api + "?ns=reg.example&n=2": listOf(b), api + "?n=3&ns=reg.example": listOf(d)},
		api+"?ns=reg.example&"+filter, "<?n=2>; rel=next", api+"?ns=reg.example&n=2", "<?n=3&ns=reg.example>; rel=next")})
	c := mustClient(registry.Config{WrapTransport: instead(w), Registries: map[string]registry.Hosts{"reg.example": {Mirrors: []registry.Host{{URL: "https://m.example"}}}}})
	got, err := c.Referrers(t.Context(), appRepo, subject, sigType)
	require.NoError(t, err)
	assert.Equal(t, []ocispec.Descriptor{a, b, d}, got)
	for _, asked := range w.asked() {
		assert.Contains(t, asked, "ns=reg.example")
		assert.NotContains(t, asked, "Basic", "a mirror gets no credential of the registry")
	}
}

// A registry without the referrers API is asked for the tag of the specification.
func TestARegistryWithoutTheAPIIsAskedForTheTag(t *testing.T) {
	a := refers("a", sigType)
	for name, no := range map[string]http.HandlerFunc{
		"404": status(404), "405": status(405), "501": status(501), "400": status(400),
		"a web page": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<html></html>")
		},
	} {
		w, c := oneHost(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/referrers/") {
				no(w, r)
				return
			}
			answers(map[string]string{tagPath: listOf(a)})(w, r)
		})
		got, err := c.Referrers(t.Context(), appRepo, subject, sigType)
		require.NoError(t, err, name)
		assert.Equal(t, []ocispec.Descriptor{a}, got, name)
		assert.Equal(t, regURL+tagPath, w.asked()[1], name)
	}
	w, c := oneHost(status(404))
	got, err := c.Referrers(t.Context(), appRepo, digest.Digest("sha512:"+strings.Repeat("ab", 64)), sigType)
	require.NoError(t, err)
	assert.Empty(t, got, "no tag means no referrers")
	assert.Equal(t, regURL+"/v2/app/manifests/sha512-"+strings.Repeat("ab", 32), w.asked()[1], "the tag has 64 characters of the hash")
}

// If the registry cannot be asked, the answer is an error and not an empty list.
func TestAFailureIsNotAnEmptyListOfReferrers(t *testing.T) {
	page := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			fmt.Fprint(w, body)
		}
	}
	link := func(target string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "<"+target+">; rel=next")
			page(listOf())(w, r)
		}
	}
	many := make([]ocispec.Descriptor, 4097)
	for i := range many {
		many[i] = refers(fmt.Sprint(i), sigType)
	}
	n := 0
	for _, tt := range []struct {
		name string
		h    http.HandlerFunc
		want content.Reason
	}{
		{"401", status(401), content.ErrUnauthorized},
		{"403", status(403), content.ErrDenied},
		{"429", status(429), content.ErrRateLimited},
		{"500", status(500), content.ErrUnavailable},
		{"half a document", page(`{"schemaVersion":2,"manifests":[`), content.ErrBadIndex},
		{"a list", page(`[]`), content.ErrBadIndex},
		{"a manifest", page(`{"schemaVersion":2,"config":{},"layers":[]}`), content.ErrBadIndex},
		{"a key in another case", page(`{"schemaVersion":2,"manifests":[],"Manifests":[]}`), content.ErrBadIndex},
		{"a bad digest", page(listOf(ocispec.Descriptor{Digest: "sha256:12"})), content.ErrBadDigest},
		{"a negative size", page(listOf(ocispec.Descriptor{Digest: subject, Size: -1})), content.ErrBadIndex},
		{"more than 4 MiB", page(strings.Repeat(" ", 4<<20+1)), content.ErrTooLarge},
		{"more than 4096 entries", page(listOf(many...)), content.ErrTooLarge},
		{"a page of another host", link("https://evil.example/v2/"), content.ErrForbiddenURL},
		{"a page over http", link("http://reg.example/v2/"), content.ErrForbiddenURL},
		{"a page with user info", link("https://a:b@reg.example/v2/"), content.ErrForbiddenURL},
		{"a page without a URL", link("https://[::1/%zz"), content.ErrRedirect},
		{"the same page for ever", link("/v2/app/referrers/again"), content.ErrBadIndex},
		{"a new page for ever", func(w http.ResponseWriter, r *http.Request) {
			n++
			link(fmt.Sprintf("/v2/app/referrers/%d", n))(w, r)
		}, content.ErrTooLarge},
		{"the second page is missing", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v2/app/referrers/second" {
				w.WriteHeader(404)
				return
			}
			link("/v2/app/referrers/second")(w, r)
		}, content.ErrNotFound},
		{"a redirect to another host", redirectTo("https://evil.example/"), content.ErrNetwork},
	} {
		synctest.Test(t, func(t *testing.T) {
			w, c := oneHost(tt.h)
			got, err := c.Referrers(t.Context(), appRepo, subject, sigType)
			assert.ErrorIs(t, err, tt.want, tt.name)
			assert.Nil(t, got, tt.name)
			for _, asked := range w.asked() {
				assert.False(t, strings.Contains(asked, "evil") && strings.Contains(asked, "Basic"), "%s: %s", tt.name, asked)
			}
		})
	}
	_, c := oneHost(status(404))
	_, err := c.Referrers(t.Context(), appRepo, "sha256:12", "")
	assert.ErrorIs(t, err, content.ErrBadDigest)
	_, err = c.Referrers(t.Context(), content.Repo{}, subject, "")
	assert.ErrorIs(t, err, content.ErrBadReference)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Referrers(ctx, appRepo, subject, "")
	assert.ErrorIs(t, err, context.Canceled)
}

// If the tag leads to something else than an index, this is an error.
func TestTheTagOfReferrersMustBeAnIndex(t *testing.T) {
	_, c := oneHost(answers(map[string]string{tagPath: `{"schemaVersion":2,"config":{"digest":"` + string(subject) + `"},"layers":[]}`}))
	_, err := c.Referrers(t.Context(), appRepo, subject, sigType)
	require.Error(t, err)
	assert.Contains(t, err.Error(), "an index")
}

// A document repeats the password. The error does not show it.
func TestTheErrorOfAListOfReferrersHidesSecrets(t *testing.T) {
	_, c := oneHost(answers(map[string]string{api: `{"schemaVersion":2,"mediaType":"` + robot.Password.Reveal() + `","manifests":[]}`,
		tagPath: `{"schemaVersion":2,"mediaType":"` + robot.Password.Reveal() + `","manifests":[]}`}))
	_, err := c.Referrers(t.Context(), appRepo, subject, "")
	require.Error(t, err)
	assert.NotContains(t, err.Error(), robot.Password.Reveal())
}

// Clients that write the index of the tag, and some registries, write the type of the config, or
// no type.
func TestEntriesWithoutATypeAreRead(t *testing.T) {
	manifest := func(artifactType string, about digest.Digest) (ocispec.Descriptor, string) {
		empty := ocispec.DescriptorEmptyJSON
		data, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			ArtifactType: artifactType, Config: empty, Layers: []ocispec.Descriptor{empty}, Subject: &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: about, Size: 1}})
		require.NoError(t, err)
		return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: fakeregistry.SHA256(data), Size: int64(len(data))}, string(data)
	}
	good, goodText := manifest(sigType, subject)
	good.ArtifactType = ocispec.MediaTypeEmptyJSON
	foreign, foreignText := manifest(sigType, refers("x", "").Digest)
	other, otherText := manifest("application/spdx+json", subject)
	other.ArtifactType = ocispec.MediaTypeImageConfig
	texts := map[string]string{tagPath: listOf(good, foreign, other, refers("gone", ""))}
	for d, text := range map[digest.Digest]string{good.Digest: goodText, foreign.Digest: foreignText, other.Digest: otherText} {
		texts["/v2/app/manifests/"+string(d)] = text
	}
	h := func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/sha256:") {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			if text, ok := texts[r.URL.Path]; ok {
				fmt.Fprint(w, text)
				return
			}
		}
		answers(texts)(w, r)
	}
	_, c := oneHost(h)
	got, err := c.Referrers(t.Context(), appRepo, subject, sigType)
	require.NoError(t, err)
	good.ArtifactType = sigType
	assert.Equal(t, []ocispec.Descriptor{good}, got)

	untyped := make([]ocispec.Descriptor, 65)
	for i := range untyped {
		untyped[i] = refers(fmt.Sprint(i), "")
	}
	texts[api+"?artifactType="+url.QueryEscape(sigType)] = texts[tagPath]
	got, err = c.Referrers(t.Context(), appRepo, subject, sigType)
	require.NoError(t, err)
	assert.Equal(t, []ocispec.Descriptor{good}, got, "the API of some registries has the types of configs, too")
	delete(texts, api+"?artifactType="+url.QueryEscape(sigType))
	texts[tagPath] = listOf(untyped...)
	_, err = c.Referrers(t.Context(), appRepo, subject, sigType)
	assert.ErrorIs(t, err, content.ErrTooLarge)
}

func TestTagsOfCosignAreFound(t *testing.T) {
	text := `{"schemaVersion":2,"config":{"digest":"` + string(subject) + `"},"layers":[]}`
	w, c := oneHost(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != tagPath+".sig" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, text)
	})
	want := []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Digest: fakeregistry.SHA256([]byte(text)), Size: int64(len(text)), ArtifactType: cosignSig}}
	for _, filter := range []string{"", cosignSig} {
		got, err := c.Referrers(t.Context(), appRepo, subject, filter)
		require.NoError(t, err)
		assert.Equal(t, want, plainType(got), filter)
	}
	assert.Len(t, w.asked(), 5+3, "a filter of one type costs the API, the tag and one tag of cosign")
}

// plainType replaces the types that net/http guesses by that of a manifest.
func plainType(list []ocispec.Descriptor) []ocispec.Descriptor {
	for i := range list {
		if strings.HasPrefix(list[i].MediaType, "text/plain") {
			list[i].MediaType = ocispec.MediaTypeImageManifest
		}
	}
	return list
}

// Only mirrors with the capability are asked. A mirror that lists nothing is passed over.
func TestMirrorsAreAskedForReferrersByTheirCapability(t *testing.T) {
	a := refers("a", sigType)
	serve := answers(map[string]string{api: listOf(a), tagPath: listOf(a)})
	w := newWorld(map[string]http.HandlerFunc{"https://m1.example": status(500), "https://m2.example": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		fmt.Fprint(w, listOf())
	}, "https://reg.example": func(w http.ResponseWriter, r *http.Request) {
		r.RequestURI, r.URL.RawQuery = r.URL.Path, ""
		serve(w, r)
	}})
	hosts := func(server registry.Capability) registry.Hosts {
		return registry.Hosts{Server: registry.Host{URL: "https://reg.example", Can: server}, Mirrors: []registry.Host{
			{URL: "https://m1.example", Can: registry.CanPull | registry.CanResolve},
			{URL: "https://m2.example", Can: registry.CanReferrers},
		}}
	}
	for server, want := range map[registry.Capability][]string{
		0:                     {"GET https://m2.example" + api, regURL + api},
		registry.CanResolve:   {"GET https://m2.example" + api, regURL + tagPath},
		registry.CanReferrers: {"GET https://m2.example" + api, regURL + api},
	} {
		c := mustClient(registry.Config{WrapTransport: instead(w), Registries: map[string]registry.Hosts{"reg.example": hosts(server)}})
		got, err := c.Referrers(t.Context(), appRepo, subject, sigType)
		require.NoError(t, err)
		assert.Equal(t, []ocispec.Descriptor{a}, got)
		var asked []string
		for _, line := range w.asked() {
			line, _, _ = strings.Cut(line, "?")
			asked = append(asked, line)
		}
		assert.Equal(t, want, asked)
	}
	c := mustClient(registry.Config{WrapTransport: instead(w), Registries: map[string]registry.Hosts{"reg.example": {Server: registry.Host{URL: "https://reg.example", Can: registry.CanPull}}}})
	_, err := c.Referrers(t.Context(), appRepo, subject, sigType)
	assert.ErrorIs(t, err, content.ErrConfig)
}

func TestReferrersIsACapabilityOfHostsToml(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "reg.example"), 0o755))
	file := filepath.Join(dir, "reg.example", "hosts.toml")
	require.NoError(t, os.WriteFile(file, []byte("server = \"https://reg.example\"\n[host.\"https://m.example\"]\ncapabilities = [\"pull\", \"referrers\"]\n"), 0o600))
	hosts, err := certsd.Dir(dir).Read(t.Context(), "reg.example")
	require.NoError(t, err)
	assert.Equal(t, registry.CanPull|registry.CanReferrers, hosts.Mirrors[0].Can)
}

// docker-registry 2.8 does not have the referrers API.
func TestReferrersOfDockerRegistryAreFoundByTheTag(t *testing.T) {
	im := newRealImage(t, 1000)
	open := realtest.StartRegistry(t, realtest.RegistryConfig{})
	im.push(t, open)
	about := fakeregistry.SHA256(im.manifest)
	empty := ocispec.DescriptorEmptyJSON
	sig, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: sigType,
		Config: empty, Layers: []ocispec.Descriptor{empty}, Subject: &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: about, Size: int64(len(im.manifest))}})
	require.NoError(t, err)
	tag := "sha256-" + about.Encoded()
	open.Push(t, "team/app", tag+".sig", ocispec.MediaTypeImageManifest, sig, []byte("{}"))
	entry := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: fakeregistry.SHA256(sig), Size: int64(len(sig)), ArtifactType: sigType}
	open.Push(t, "team/app", tag, ocispec.MediaTypeImageIndex, []byte(listOf(entry)))
	open.Stop()

	ca := realtest.NewCA(t)
	r := realtest.StartRegistry(t, realtest.RegistryConfig{Dir: open.Dir, CA: ca, Htpasswd: map[string]string{"robot": "s3cret-pass"}})
	c := newClient(t, registry.Config{RootCAs: ca.Pool})
	defer c.CloseIdleConnections()
	repo := content.Repo{Ref: reference.MustParse(r.Host + "/team/app:v1"), Cred: robot}
	got, err := c.Referrers(t.Context(), repo, about, sigType)
	require.NoError(t, err)
	assert.Equal(t, []ocispec.Descriptor{entry}, got)
	cosign := entry
	cosign.ArtifactType = cosignSig
	got, err = c.Referrers(t.Context(), repo, about, cosignSig)
	require.NoError(t, err)
	assert.Equal(t, []ocispec.Descriptor{cosign}, got, "the tag of cosign")
	got, err = c.Referrers(t.Context(), repo, fakeregistry.SHA256(sig), "")
	require.NoError(t, err)
	assert.Empty(t, got)
	_, err = c.Referrers(t.Context(), content.Repo{Ref: repo.Ref}, about, sigType)
	assert.ErrorIs(t, err, content.ErrUnauthorized, "without the credential the signatures cannot be seen")
}
