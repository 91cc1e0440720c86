package registry_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

// findHosts is a Config.Find that yields the same hosts for each digest.
func findHosts(urls ...string) func(context.Context, reference.Reference, digest.Digest) iter.Seq[registry.Host] {
	return func(context.Context, reference.Reference, digest.Digest) iter.Seq[registry.Host] {
		return func(yield func(registry.Host) bool) {
			for _, u := range urls {
				if !yield(registry.Host{URL: u}) {
					return
				}
			}
		}
	}
}

// A foundWorld has a registry, a mirror of it and two hosts that are found.
type foundWorld struct {
	*world
	*registry.Client
	repo content.Repo // with a Confirmation
}

var foundRef = reference.MustParse("reg.example/app:v1")

func foundAt(t testing.TB, cfg registry.Config, p1, p2, mirror, reg http.HandlerFunc) *foundWorld {
	t.Helper()
	f := &foundWorld{world: newWorld(map[string]http.HandlerFunc{
		"http://p1.example": p1, "http://p2.example": p2, "https://m.example": mirror, "https://reg.example": serveAll})}
	cfg.WrapTransport = instead(f.world)
	if cfg.Find == nil {
		cfg.Find = findHosts("http://p1.example", "http://p2.example")
	}
	cfg.Registries = map[string]registry.Hosts{"reg.example": {Mirrors: []registry.Host{{URL: "https://m.example", Can: registry.CanPull}}}}
	f.Client = newClient(t, cfg)
	doc, err := f.Manifest(t.Context(), content.Repo{Ref: foundRef, Cred: robot}, "")
	require.NoError(t, err)
	require.Equal(t, []string{"GET https://reg.example/v2/app/manifests/v1"}, f.asked(), "what a tag points to is never asked of a found host")
	f.repo = content.Repo{Ref: foundRef, Cred: robot, Confirmation: doc.Confirmation}
	f.servers["https://reg.example"] = reg
	return f
}

// hosts returns which hosts were asked since the last call.
func (f *foundWorld) hosts() string {
	var list []string
	for _, line := range f.asked() {
		_, rest, _ := strings.Cut(line, "://")
		host, _, _ := strings.Cut(rest, ".")
		list = append(list, host)
	}
	return strings.Join(list, " ")
}

// Found hosts are asked for blobs, and for manifests by digest, before the mirrors. If a found
// host fails, the next host is asked at once.
func TestFoundHostsAreAskedBeforeTheMirrors(t *testing.T) {
	child := digest.FromString(manifestText)
	for name, tt := range map[string]struct {
		p1, p2, mirror http.HandlerFunc
		want           string
	}{
		"the first has it":  {serveAll, serveAll, serveAll, "p1"},
		"the second":        {status(404), serveAll, serveAll, "p1 p2"},
		"only the mirror":   {status(404), status(500), serveAll, "p1 p2 m"},
		"only the registry": {nil, nil, status(404), "p1 p2 m reg"},
	} {
		t.Run(name, func(t *testing.T) {
			f := foundAt(t, registry.Config{}, tt.p1, tt.p2, tt.mirror, serveAll)
			data, err := read(t.Context(), f.Client, f.repo, helloBlob())
			require.NoError(t, err)
			assert.Equal(t, hello, string(data))
			assert.Equal(t, tt.want, f.hosts())
			f = foundAt(t, registry.Config{}, tt.p1, tt.p2, tt.mirror, serveAll)
			f.repo.Ref, err = foundRef.WithoutTag().WithDigest(child)
			require.NoError(t, err)
			doc, err := f.Manifest(t.Context(), f.repo, "")
			require.NoError(t, err)
			assert.Equal(t, manifestText, string(doc.Body))
			assert.Equal(t, f.repo.Confirmation, doc.Confirmation)
			assert.Equal(t, tt.want, f.hosts())
		})
	}
}

// No found host is asked without a Confirmation of this Client for the same repository and
// credential.
func TestNoHostIsFoundWithoutAConfirmation(t *testing.T) {
	f := foundAt(t, registry.Config{}, serveAll, serveAll, status(404), serveAll)
	other := foundAt(t, registry.Config{}, serveAll, serveAll, status(404), serveAll)
	for name, repo := range map[string]content.Repo{
		"none":               {Ref: foundRef, Cred: robot},
		"another credential": {Ref: foundRef, Cred: credentials.Credential{Username: "x", Password: credentials.Conceal("y")}, Confirmation: f.repo.Confirmation},
		"no credential":      {Ref: foundRef, Confirmation: f.repo.Confirmation},
		"another repository": {Ref: reference.MustParse("reg.example/other:v1"), Cred: robot, Confirmation: f.repo.Confirmation},
		"another client":     {Ref: foundRef, Cred: robot, Confirmation: other.repo.Confirmation},
		"something else":     {Ref: foundRef, Cred: robot, Confirmation: "yes"},
	} {
		_, err := read(t.Context(), f.Client, repo, helloBlob())
		require.NoError(t, err)
		assert.Equal(t, "m reg", f.hosts(), name)
	}
	// A document that is refused has no Confirmation, whether it is named by a tag or by a digest.
	pinned, err := foundRef.WithDigest(digest.FromString(manifestText))
	require.NoError(t, err)
	for _, ref := range []reference.Reference{foundRef, pinned} {
		for _, refusal := range []http.HandlerFunc{status(401, "WWW-Authenticate", "Basic realm=r"), status(403), status(404), status(500)} {
			f.servers["https://reg.example"] = refusal
			doc, err := f.Manifest(t.Context(), content.Repo{Ref: ref, Cred: credentials.Credential{}}, "")
			assert.Error(t, err)
			assert.Zero(t, doc.Confirmation)
			assert.NotContains(t, f.hosts(), "p", "no found host is asked")
		}
	}
}

// If the digest of a document is known, a HEAD is enough to confirm the document, and the
// document is not fetched.
func TestAHeadConfirms(t *testing.T) {
	f := foundAt(t, registry.Config{}, serveAll, serveAll, status(404), serveAll)
	doc, err := f.Manifest(t.Context(), content.Repo{Ref: foundRef, Cred: robot}, digest.FromString(manifestText))
	require.NoError(t, err)
	f.asked()
	f.repo.Confirmation = doc.Confirmation
	_, err = read(t.Context(), f.Client, f.repo, helloBlob())
	require.NoError(t, err)
	assert.Equal(t, "p1", f.hosts())
}

// A found host does not get a credential, even if it asks for one. Its redirects are not
// followed.
func TestAFoundHostIsAskedAnonymously(t *testing.T) {
	everywhere := credentials.Static{{Username: "robot", Password: credentials.Conceal("everywhere")}}
	for name, answer := range map[string]http.HandlerFunc{
		"basic":                       status(401, "WWW-Authenticate", "Basic realm=r"),
		"bearer":                      status(401, "WWW-Authenticate", `Bearer realm="http://p1.example/token"`),
		"a redirect":                  redirectTo("http://p2.example/v2/app/blobs/x"),
		"a redirect to itself":        redirectTo("http://p1.example/other"),
		"a redirect to the registry":  redirectTo("https://reg.example" + helloPath),
		"something in place of bytes": status(204),
	} {
		t.Run(name, func(t *testing.T) {
			f := foundAt(t, registry.Config{MirrorKeyring: everywhere}, answer, status(404), status(404), serveAll)
			f.repo.Mirrors = everywhere
			_, err := read(t.Context(), f.Client, f.repo, helloBlob())
			require.NoError(t, err)
			f.mu.Lock()
			for _, r := range f.seen {
				if r.URL.Scheme == "http" {
					assert.Empty(t, r.Header.Get("Authorization"))
					assert.Equal(t, "/v2"+strings.TrimPrefix(helloPath, "/v2")+"?ns=reg.example", r.URL.RequestURI())
				}
			}
			f.mu.Unlock()
			assert.Equal(t, "p1 p2 m reg", f.hosts()[:len("p1 p2 m reg")])
		})
	}
}

// A found host with an Authorization of its own, or with a URL that is not valid, is not asked. A
// found host with the registry's address does not get a credential either.
func TestHostsThatAreNotFit(t *testing.T) {
	f := foundAt(t, registry.Config{Find: func(context.Context, reference.Reference, digest.Digest) iter.Seq[registry.Host] {
		return slices.Values([]registry.Host{
			{URL: "http://p1.example", Header: http.Header{"authorization": {"Basic x"}}}, {URL: "ftp://p1.example"}, {URL: "http://p1.example?x"},
			{URL: "http://p1.example", Can: registry.CanResolve}, {URL: "https://reg.example"},
		})
	}}, serveAll, serveAll, status(404), needsLogin("robot", serveAll))
	_, err := read(t.Context(), f.Client, f.repo, helloBlob())
	require.NoError(t, err)
	asked := f.asked()
	require.Len(t, asked, 4)
	assert.Equal(t, "GET https://reg.example"+helloPath, asked[0], "as a found host, anonymously")
	assert.Contains(t, asked[1], "https://m.example")
	assert.Equal(t, []string{"GET https://reg.example" + helloPath, "GET https://reg.example" + helloPath + " Basic"}, asked[2:])
}

// A found host that sends other bytes than the content is left out by all later calls, also for
// other content.
func TestAFoundHostThatSendsWrongBytesIsLeft(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"other bytes": text(strings.Repeat("x", len(hello))),
		"fewer":       text("h"),
		"more":        text(hello + "more"),
		"encoded":     status(200, "Content-Encoding", "gzip"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := foundAt(t, registry.Config{}, answer, serveAll, status(404), serveAll)
				get := func() string {
					body, err := f.Blob(t.Context(), f.repo, helloBlob(), 0, -1)
					require.NoError(t, err)
					defer body.Close()
					data, err := io.ReadAll(body)
					if err != nil || string(data) != hello {
						assert.True(t, body.Reject())
						return "something else"
					}
					return hello
				}
				first := get()
				f.hosts()
				assert.Equal(t, hello, get())
				assert.Equal(t, "p2", f.hosts(), "after %q", first)
				child, err := foundRef.WithoutTag().WithDigest(digest.FromString(manifestText))
				require.NoError(t, err)
				_, err = f.Manifest(t.Context(), content.Repo{Ref: child, Cred: robot, Confirmation: f.repo.Confirmation}, "")
				require.NoError(t, err)
				assert.Equal(t, "p2", f.hosts())
				time.Sleep(10 * time.Minute)
				get()
				assert.Equal(t, "p1", f.hosts()[:2], "after ten minutes it is asked again")
			})
		})
	}
}

// A found host is left out under all its paths. Found hosts on other ports are not left out.
func TestAFoundHostIsLeftUnderAllItsPaths(t *testing.T) {
	path := "/a/v2"
	f := foundAt(t, registry.Config{Find: func(context.Context, reference.Reference, digest.Digest) iter.Seq[registry.Host] {
		return slices.Values([]registry.Host{{URL: "http://p1.example" + path}, {URL: "http://p1.example:81"}})
	}}, status(500), status(404), status(404), serveAll)
	for _, want := range []string{"p1 p1 m reg", "m reg"} {
		_, err := read(t.Context(), f.Client, f.repo, helloBlob())
		require.NoError(t, err)
		assert.Equal(t, want, f.hosts())
		path = "/b/v2"
	}
}

// A found host that sends another manifest than the one with the digest is left out.
func TestAFoundHostThatSendsAnotherManifestIsLeft(t *testing.T) {
	f := foundAt(t, registry.Config{}, text(`{"schemaVersion":2}`), serveAll, status(404), serveAll)
	child, err := foundRef.WithoutTag().WithDigest(digest.FromString(manifestText))
	require.NoError(t, err)
	_, err = f.Manifest(t.Context(), content.Repo{Ref: child, Cred: robot, Confirmation: f.repo.Confirmation}, "")
	require.NoError(t, err)
	assert.Equal(t, "p1 p2", f.hosts())
	_, err = read(t.Context(), f.Client, f.repo, helloBlob())
	require.NoError(t, err)
	assert.Equal(t, "p2", f.hosts())
}

// If a found host stops within a blob, the next host goes on from there. The first host is not
// asked again, although it has sent bytes.
func TestAFoundHostThatStopsIsLeftAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		half := func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			_, _ = io.WriteString(w, hello[:2])
		}
		f := foundAt(t, registry.Config{}, nil, func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, "bytes=2-4", r.Header.Get("Range"))
			w.Header().Set("Content-Range", "bytes 2-4/5")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, hello[2:])
		}, status(404), status(404))
		f.servers["http://p1.example"] = half
		began := time.Now()
		data, err := read(t.Context(), f.Client, f.repo, helloBlob())
		require.NoError(t, err)
		assert.Equal(t, hello, string(data))
		assert.Equal(t, "p1 p2", f.hosts())
		assert.Zero(t, time.Since(began))
	})
}

// A busy found host is asked again before the registry is asked.
func TestABusyFoundHostIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := 3
		p1 := func(w http.ResponseWriter, r *http.Request) {
			if busy--; busy >= 0 {
				status(http.StatusTooManyRequests, "Retry-After", "1")(w, r)
				return
			}
			serveAll(w, r)
		}
		f := foundAt(t, registry.Config{}, p1, status(404), serveAll, serveAll)
		began := time.Now()
		_, err := read(t.Context(), f.Client, f.repo, helloBlob())
		require.NoError(t, err)
		assert.Equal(t, "p1 p2 p1 p1 p1", f.hosts(), "a host that does not have it is not asked again")
		assert.GreaterOrEqual(t, time.Since(began), 3*time.Second)

		busy = 1 << 20
		began = time.Now()
		_, err = read(t.Context(), f.Client, f.repo, helloBlob())
		require.NoError(t, err)
		assert.True(t, strings.HasSuffix(f.hosts(), "p1 m"), "in the end the mirror is asked")
		assert.InDelta(t, 59, time.Since(began).Seconds(), 1, "within MaxWait")
		began = time.Now()
		_, err = read(t.Context(), f.Client, f.repo, helloBlob())
		require.NoError(t, err)
		assert.Equal(t, "p2 m", f.hosts(), "the next blob does not wait for it")
		assert.Zero(t, time.Since(began))
		time.Sleep(10 * time.Minute)

		f.servers["http://p2.example"] = serveAll
		began = time.Now()
		_, err = read(t.Context(), f.Client, f.repo, helloBlob())
		require.NoError(t, err)
		assert.Equal(t, "p1 p2", f.hosts())
		assert.Zero(t, time.Since(began), "another found host has the blob, so the busy host is not waited for")
	})
}

// A slowBody gives 32 KiB of zeros in each second, or all at once.
type slowBody struct {
	left  int
	slow  bool
	reads *int
}

func (b *slowBody) Read(p []byte) (int, error) {
	n := min(len(p), b.left, 32<<10)
	if n == 0 {
		return 0, io.EOF
	}
	if b.slow {
		time.Sleep(time.Second)
		*b.reads++
	}
	clear(p[:n])
	b.left -= n
	return n, nil
}

func (b *slowBody) Close() error { return nil }

// serveZeros answers requests for a blob of size zeros. The host p1.example is slow.
type serveZeros struct {
	size  int
	reads int // of p1
	asked []string
}

func (s *serveZeros) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked = append(s.asked, r.URL.Hostname())
	resp := &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, ContentLength: int64(len(manifestText)), Body: io.NopCloser(strings.NewReader(manifestText)), Request: r}
	if !strings.Contains(r.URL.Path, "/blobs/") {
		return resp, nil
	}
	start := 0
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &start); err == nil {
		resp.StatusCode = 206
		resp.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, s.size-1, s.size))
	}
	resp.ContentLength = int64(s.size - start)
	resp.Body = &slowBody{s.size - start, r.URL.Hostname() == "p1.example", &s.reads}
	return resp, nil
}

// A found host that sends few bytes a second is left, and is not asked for the next blob.
func TestASlowFoundHostIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers := &serveZeros{size: 4 << 20}
		c := newClient(t, registry.Config{WrapTransport: instead(servers), Find: findHosts("http://p1.example", "http://p2.example")})
		doc, err := c.Manifest(t.Context(), content.Repo{Ref: foundRef}, "")
		require.NoError(t, err)
		blob := helloBlob()
		blob.Size = int64(servers.size)
		for range 2 {
			body, err := c.Blob(t.Context(), content.Repo{Ref: foundRef, Confirmation: doc.Confirmation}, blob, 0, -1)
			require.NoError(t, err)
			n, err := io.Copy(io.Discard, body)
			require.NoError(t, err)
			assert.Equal(t, blob.Size, n)
			require.NoError(t, body.Close())
		}
		assert.Equal(t, []string{"reg.example", "p1.example", "p2.example", "p2.example"}, servers.asked)
		assert.InDelta(t, 30, servers.reads, 2, "seconds")
	})
}

// Hosts that Find yields too late are not asked, and Find may still run then.
func TestFindMustAnswerSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		defer close(stop)
		calls, ended := 0, 0
		var mu sync.Mutex
		f := foundAt(t, registry.Config{Find: func(ctx context.Context, ref reference.Reference, d digest.Digest) iter.Seq[registry.Host] {
			assert.Equal(t, "reg.example/app", ref.Name())
			assert.Equal(t, helloBlob().Digest, d)
			mu.Lock()
			calls++
			mu.Unlock()
			return func(yield func(registry.Host) bool) {
				yield(registry.Host{URL: "http://p1.example"})
				<-ctx.Done()
				mu.Lock()
				ended++
				mu.Unlock()
				<-stop // ignores the end of its context
			}
		}}, status(404), status(404), serveAll, serveAll)
		began := time.Now()
		_, err := read(t.Context(), f.Client, f.repo, helloBlob())
		require.NoError(t, err)
		assert.Equal(t, "p1 m", f.hosts(), "what was found within the limit is asked")
		assert.Equal(t, 250*time.Millisecond, time.Since(began))
		for range 200 {
			_, err := read(t.Context(), f.Client, f.repo, helloBlob())
			require.NoError(t, err)
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		assert.Equal(t, 64, calls, "calls that do not end have a limit")
		assert.Equal(t, 64, ended)
	})
}

func TestManyHostsAreFound(t *testing.T) {
	yielded := 0
	f := foundAt(t, registry.Config{Find: func(context.Context, reference.Reference, digest.Digest) iter.Seq[registry.Host] {
		return func(yield func(registry.Host) bool) {
			for yielded = 1; yield(registry.Host{URL: "http://p1.example:" + string(rune('0'+yielded%10)) + "00"}); yielded++ {
			}
		}
	}}, status(404), status(404), serveAll, serveAll)
	_, err := read(t.Context(), f.Client, f.repo, helloBlob())
	require.NoError(t, err)
	assert.Equal(t, 16, yielded)
}

func TestAPanicOfFindIsRaised(t *testing.T) {
	f := foundAt(t, registry.Config{Find: func(context.Context, reference.Reference, digest.Digest) iter.Seq[registry.Host] { panic("find") }}, nil, nil, serveAll, serveAll)
	assert.Panics(t, func() { _, _ = read(t.Context(), f.Client, f.repo, helloBlob()) })
	f.CloseIdleConnections()
}

// The registry is away. With FindWithoutRegistry, found hosts serve a document that is named by
// digest, and the document is Unconfirmed.
func TestFindWithoutRegistry(t *testing.T) {
	pinned, err := foundRef.WithDigest(digest.FromString(manifestText))
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		off         bool
		ref         reference.Reference
		mirror, reg http.HandlerFunc
		found       bool
	}{
		"away":                 {ref: pinned, mirror: status(404), found: true},
		"a bad gateway":        {ref: pinned, mirror: status(404), reg: status(502), found: true},
		"all away":             {ref: pinned, found: true},
		"off":                  {off: true, ref: pinned},
		"a tag":                {ref: foundRef},
		"not found":            {ref: pinned, reg: status(404)},
		"refused":              {ref: pinned, reg: status(401, "WWW-Authenticate", "Basic realm=r")},
		"denied":               {ref: pinned, reg: status(403)},
		"limited":              {ref: pinned, reg: status(429)},
		"broken":               {ref: pinned, reg: status(500)},
		"the mirror refuses":   {ref: pinned, mirror: status(401, "WWW-Authenticate", "Basic realm=r")},
		"the mirror denies it": {ref: pinned, mirror: status(403)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := foundAt(t, registry.Config{FindWithoutRegistry: !tt.off}, status(404), serveAll, tt.mirror, tt.reg)
				doc, err := f.Manifest(t.Context(), content.Repo{Ref: tt.ref, Cred: robot}, "")
				if !tt.found {
					assert.Error(t, err)
					assert.NotContains(t, f.hosts(), "p")
					return
				}
				require.NoError(t, err)
				assert.Equal(t, content.Opening{Unconfirmed: true}, doc.Opening)
				assert.Equal(t, manifestText, string(doc.Body))
				assert.True(t, strings.HasSuffix(f.hosts(), "p1 p2"))
				f.repo.Confirmation = doc.Confirmation
				_, err = read(t.Context(), f.Client, f.repo, helloBlob())
				require.NoError(t, err)
				assert.Equal(t, "p1 p2", f.hosts())
			})
		})
	}
	_, err = registry.New(registry.Config{FindWithoutRegistry: true})
	assert.ErrorContains(t, err, "FindWithoutRegistry needs Find")
}

// If no found host has the document either, the error is that of the registry.
func TestTheErrorIsTheRegistrysIfNoHostIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pinned, err := foundRef.WithDigest(digest.FromString(manifestText))
		require.NoError(t, err)
		f := foundAt(t, registry.Config{FindWithoutRegistry: true}, status(404), nil, nil, nil)
		_, err = f.Manifest(t.Context(), content.Repo{Ref: pinned, Cred: robot}, "")
		var e *content.Error
		require.True(t, errors.As(err, &e))
		assert.Equal(t, "reg.example", e.Host)
	})
}

// With NoMirrorForPrivate, found hosts are not asked for private images.
func TestNoFoundHostForPrivate(t *testing.T) {
	f := foundAt(t, registry.Config{NoMirrorForPrivate: true}, serveAll, serveAll, serveAll, serveAll)
	_, err := read(t.Context(), f.Client, f.repo, helloBlob())
	require.NoError(t, err)
	assert.Equal(t, "reg", f.hosts())
}

// Find may make the settings of a host for each call. The connection to the host is kept if the
// settings are equal.
func TestAFoundHostWithNewValuesOfTheSameSettingsIsTheSameHost(t *testing.T) {
	ca := realtest.NewCA(t)
	server, _, _ := ca.Issue(t, "server", "127.0.0.1")
	_, certFile, keyFile := ca.Issue(t, "node", "node")
	_, otherFile, otherKey := ca.Issue(t, "other", "other")
	authority, err := os.ReadFile(ca.File)
	require.NoError(t, err)
	reg := httptest.NewServer(http.HandlerFunc(serveAll))
	defer reg.Close()
	var mu sync.Mutex
	shown := map[string]int{}
	found := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		shown[r.TLS.PeerCertificates[0].Subject.CommonName+" "+r.RemoteAddr]++
		mu.Unlock()
		serveAll(w, r)
	}))
	found.TLS = &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	found.StartTLS()
	defer found.Close()
	host := strings.TrimPrefix(reg.URL, "http://")
	c := newClient(t, registry.Config{PlainHTTP: []string{host}, Find: func(context.Context, reference.Reference, digest.Digest) iter.Seq[registry.Host] {
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		assert.NoError(t, err)
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(authority)
		return slices.Values([]registry.Host{{URL: found.URL, RootCAs: pool, Certificates: []tls.Certificate{cert}}})
	}})
	defer c.CloseIdleConnections()
	repo := content.Repo{Ref: reference.MustParse(host + "/app:v1")}
	doc, err := c.Manifest(t.Context(), repo, "")
	require.NoError(t, err)
	repo.Confirmation = doc.Confirmation
	get := func(times int) {
		for range times {
			_, err := read(t.Context(), c, repo, helloBlob())
			require.NoError(t, err)
		}
	}
	get(5)
	mu.Lock()
	assert.Len(t, shown, 1, "one connection serves all requests: %v", shown)
	mu.Unlock()
	certFile, keyFile = otherFile, otherKey
	get(1)
	mu.Lock()
	defer mu.Unlock()
	assert.Len(t, shown, 2, "another certificate is shown on a connection of its own: %v", shown)
}
