package registry_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

// A signingFront redirects each blob to a signed URL of a storage. The storage serves
// parts, and refuses signatures that the test has ended.
type signingFront struct {
	*world
	header  http.Header // of the redirects
	signed  int         // redirects so far; the signature is their number
	valid   int         // signatures from this number on are valid
	refused http.HandlerFunc
	blob    []byte
}

// newSigningFront makes a front and a storage with a blob of 1000 bytes.
func newSigningFront() *signingFront {
	f := &signingFront{header: http.Header{}, refused: challengeWith(403, ""), blob: bytes.Repeat([]byte("0123456789"), 100)}
	f.world = newWorld(map[string]http.HandlerFunc{
		"https://reg.example": signedIn("Basic realm=x", func(w http.ResponseWriter, r *http.Request) {
			for name, values := range f.header {
				w.Header()[name] = values
			}
			f.signed++
			redirectTo(fmt.Sprintf("https://storage.example/b?X-Sig=signature-%d", f.signed))(w, r)
		}),
		"https://storage.example": func(w http.ResponseWriter, r *http.Request) {
			number := 0
			_, _ = fmt.Sscanf(r.URL.RawQuery, "X-Sig=signature-%d", &number)
			if r.Header.Get("Authorization") != "" || number < f.valid {
				f.refused(w, r)
				return
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.blob))
		},
	})
	return f
}

func (f *signingFront) desc() ocispec.Descriptor {
	return ocispec.Descriptor{Digest: digest.FromBytes(f.blob), Size: int64(len(f.blob))}
}

// client makes a Client of the front that makes only one try.
func (f *signingFront) client(t *testing.T, tr *trace) *registry.Client {
	return newClient(t, registry.Config{WrapTransport: instead(f.world), Logger: tr.logger(), Retries: -1})
}

// part reads 100 bytes of the blob and returns the hosts that were asked for them.
func (f *signingFront) part(t *testing.T, c *registry.Client, repo content.Repo, off int64) []string {
	t.Helper()
	body, err := c.Blob(t.Context(), repo, f.desc(), off, 100)
	require.NoError(t, err)
	data, err := io.ReadAll(body)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	assert.Equal(t, f.blob[off:off+100], data)
	var hosts []string
	for _, line := range f.asked() {
		host, _, _ := strings.Cut(strings.TrimPrefix(line, "GET https://"), "/")
		hosts = append(hosts, strings.TrimSuffix(host, ".example"))
		if host == "storage.example" {
			assert.Len(t, strings.Fields(line), 2, "no Authorization")
		}
	}
	return hosts
}

func robotRepo() content.Repo {
	return content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: robot}
}

// TestTheTargetOfARedirectServesTheOtherParts: the registry is asked only for the first
// part of a blob that it redirects.
func TestTheTargetOfARedirectServesTheOtherParts(t *testing.T) {
	f := newSigningFront()
	var tr trace
	c := f.client(t, &tr)
	assert.Equal(t, []string{"reg", "reg", "storage"}, f.part(t, c, robotRepo(), 0), "a refusal, a redirect")
	for off := int64(100); off < 1000; off += 100 {
		assert.Equal(t, []string{"storage"}, f.part(t, c, robotRepo(), off))
	}
	assert.Equal(t, 1, f.signed)
	assert.NotContains(t, tr.text.String(), "signature-", "the log hides the query")
}

// TestATargetIsKeptForOneBlobOnly: for another credential, repository, blob or Client the
// registry is asked.
func TestATargetIsKeptForOneBlobOnly(t *testing.T) {
	f := newSigningFront()
	c := f.client(t, &trace{})
	f.part(t, c, robotRepo(), 0)

	other := robotRepo()
	other.Cred.Username = "other"
	assert.Contains(t, f.part(t, c, other, 0), "reg", "another credential")
	other = robotRepo()
	other.Ref = reference.MustParse("reg.example/other:v1")
	assert.Contains(t, f.part(t, c, other, 0), "reg", "another repository")
	assert.Contains(t, f.part(t, f.client(t, &trace{}), robotRepo(), 0), "reg", "another Client")
	assert.Equal(t, []string{"storage"}, f.part(t, c, robotRepo(), 0))

	f.blob = bytes.Repeat([]byte("9876543210"), 100)
	assert.Contains(t, f.part(t, c, robotRepo(), 0), "reg", "another blob")
}

// A target that does not serve the bytes that were asked for is forgotten: it refuses the
// request, fails, limits requests, cannot be reached or answers with something else. The
// same try asks the registry, and its new redirect is kept.
func TestATargetThatRefusesIsForgotten(t *testing.T) {
	for name, refused := range map[string]http.HandlerFunc{
		"400": challengeWith(400, ""), "401": challengeWith(401, "Basic realm=x"), "403": challengeWith(403, ""),
		"404": challengeWith(404, ""), "410": challengeWith(410, ""), "416": challengeWith(416, ""),
		"429": status(429), "500": status(500), "503": status(503, "Retry-After", "30"),
		"no connection":         redirectTo("https://gone.example/b"),
		"a page":                text("<html>expired</html>"),
		"a redirect to nowhere": redirectTo(""),
		"a forbidden redirect":  redirectTo("http://storage.example/b"),
		"another part": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-99/1000")
			w.WriteHeader(206)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newSigningFront()
				c := f.client(t, &trace{})
				f.part(t, c, robotRepo(), 0)
				f.valid, f.refused = 2, refused
				began := time.Now()
				want := []string{"storage", "reg", "storage"}
				if name == "no connection" {
					want = []string{"storage", "gone", "reg", "storage"}
				}
				assert.Equal(t, want, f.part(t, c, robotRepo(), 100))
				assert.Equal(t, []string{"storage"}, f.part(t, c, robotRepo(), 200))
				assert.Zero(t, time.Since(began), "the client does not wait before it asks the registry")
			})
		})
	}
}

// A mirror is not left out because of a target to which it has redirected before.
func TestAMirrorIsNotLeftOutForAnOldTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newSigningFront()
		f.servers["https://reg.example"] = status(404)
		f.servers["https://m.example"] = func(w http.ResponseWriter, r *http.Request) {
			f.signed++
			redirectTo(fmt.Sprintf("https://storage.example/b?X-Sig=signature-%d", f.signed))(w, r)
		}
		c := newClient(t, registry.Config{WrapTransport: instead(f.world),
			Registries: map[string]registry.Hosts{"reg.example": {Mirrors: []registry.Host{{URL: "https://m.example"}}}}})
		f.part(t, c, robotRepo(), 0)
		f.valid, f.refused = 2, status(503)
		assert.Equal(t, []string{"storage", "m", "storage"}, f.part(t, c, robotRepo(), 100))
		f.valid = 3
		assert.Equal(t, []string{"storage", "m", "storage"}, f.part(t, c, robotRepo(), 200))
	})
}

// A target that is too slow, or whose answer is cut before it has brought 1 MiB, is
// forgotten: the registry is asked for the rest, and redirects to another target. A target
// whose answer is cut later is asked for the rest.
func TestATargetThatBringsLittleIsForgotten(t *testing.T) {
	blob := bytes.Repeat([]byte("0123456789"), 200<<10)
	cutAfter := func(n int64) step {
		return func(req *http.Request) (*http.Response, error) {
			resp, err := drip(blob, 1<<20, 0, -1)(req)
			resp.Body = io.NopCloser(io.LimitReader(resp.Body, n))
			return resp, err
		}
	}
	for name, tt := range map[string]struct {
		first step
		want  int
	}{
		"slow":               {drip(blob, 1, 50*time.Millisecond, -1), 2},
		"cut after 1000":     {cutAfter(1000), 2},
		"cut after 1000 KiB": {cutAfter(1000 << 10), 2},
		"cut after 1 MiB":    {cutAfter(1 << 20), 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				redirects := 0
				c := newClient(t, registry.Config{WrapTransport: instead(roundTripper(func(req *http.Request) (*http.Response, error) {
					switch req.URL.Host {
					case "reg.example":
						redirects++
						return code(307, "Location", fmt.Sprintf("https://storage-%d.example/b", redirects))(req)
					case "storage-1.example":
						return tt.first(req)
					}
					return drip(blob, 1<<20, 0, -1)(req)
				}))})
				data, err := blobRead(t, c, blob)
				require.NoError(t, err)
				assert.Equal(t, len(blob), len(data))
				assert.Equal(t, tt.want, redirects)
			})
		})
	}
}

// A target is not kept if its answers do not say which bytes they have, or if its URL has
// more than 8 KiB. Each part is then a request to the registry and one to the storage.
func TestATargetThatCannotServePartsIsNotKept(t *testing.T) {
	for name, tt := range map[string]struct {
		query string
		serve http.HandlerFunc
		want  []string // for the second part
	}{
		"Range is ignored, no Content-Length": {"", nil, []string{"reg", "storage"}},
		"Range is kept, no Content-Length": {"", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %s/1000", strings.TrimPrefix(r.Header.Get("Range"), "bytes=")))
			w.WriteHeader(206)
			off := 0
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &off)
			_, _ = w.Write(bytes.Repeat([]byte("0123456789"), 100)[off : off+100])
		}, []string{"storage"}},
		"a URL of 9 KiB": {strings.Repeat("s", 9<<10), nil, []string{"reg", "storage"}},
		"a URL of 7 KiB": {strings.Repeat("s", 7<<10), nil, []string{"storage"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newSigningFront()
			f.servers["https://reg.example"] = redirectTo("https://storage.example/b?X-Sig=signature-1" + tt.query)
			switch {
			case tt.serve != nil:
				f.servers["https://storage.example"] = tt.serve
			case tt.query == "":
				f.servers["https://storage.example"] = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(f.blob) }
			}
			c := f.client(t, &trace{})
			f.part(t, c, robotRepo(), 0)
			assert.Equal(t, tt.want, f.part(t, c, robotRepo(), 0))
		})
	}
}

// A target is used as long as the redirect says, and for five minutes at most.
func TestATargetIsUsedAsLongAsTheRedirectSays(t *testing.T) {
	const date, later = "Thu, 01 Jan 2026 00:00:00 GMT", "Thu, 01 Jan 2026 00:01:00 GMT"
	for _, tt := range []struct {
		name   string
		header http.Header
		life   time.Duration
	}{
		{"nothing is said", http.Header{}, 5 * time.Minute},
		{"max-age", http.Header{"Cache-Control": {"private, Max-Age=60"}}, time.Minute},
		{"max-age and Age", http.Header{"Cache-Control": {"max-age=60"}, "Age": {"20"}}, 40 * time.Second},
		{"a long max-age", http.Header{"Cache-Control": {"max-age=99999999999"}}, 5 * time.Minute},
		{"max-age=0", http.Header{"Cache-Control": {"max-age=0"}}, 0},
		{"a max-age that cannot be read", http.Header{"Cache-Control": {"max-age=soon"}}, 0},
		{"no-store", http.Header{"Cache-Control": {"max-age=60", "no-store"}}, 0},
		{"no-cache", http.Header{"Cache-Control": {"no-cache"}}, 0},
		{"Expires, by the server's clock", http.Header{"Date": {date}, "Expires": {later}}, time.Minute},
		{"Expires that cannot be read", http.Header{"Expires": {"-1"}}, 0},
		{"max-age comes before Expires", http.Header{"Expires": {"-1"}, "Cache-Control": {"max-age=60"}}, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newSigningFront()
				f.header = tt.header
				c := f.client(t, &trace{})
				f.part(t, c, robotRepo(), 0)
				if tt.life > 0 {
					time.Sleep(tt.life - time.Second)
					assert.Equal(t, []string{"storage"}, f.part(t, c, robotRepo(), 100))
					time.Sleep(time.Second)
				}
				assert.Equal(t, []string{"reg", "storage"}, f.part(t, c, robotRepo(), 200))
			})
		})
	}
	t.Run("the credential", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newSigningFront()
			c := f.client(t, &trace{})
			repo := robotRepo()
			repo.Cred.Expires = time.Now().Add(time.Minute)
			f.part(t, c, repo, 0)
			time.Sleep(time.Minute)
			assert.Equal(t, []string{"reg", "storage"}, f.part(t, c, repo, 100))
		})
	})
}

// A target is forgotten if it sent other bytes than those of the blob.
func TestATargetWithWrongBytesIsForgotten(t *testing.T) {
	f := newSigningFront()
	c := f.client(t, &trace{})
	f.part(t, c, robotRepo(), 0)
	body, err := c.Blob(t.Context(), robotRepo(), f.desc(), 0, -1)
	require.NoError(t, err)
	body.Reject()
	require.NoError(t, body.Close())
	f.asked()
	assert.Equal(t, []string{"reg", "storage"}, f.part(t, c, robotRepo(), 100))
}

// The error of a request to a target hides its query, and so does the log. That is so also
// if the storage repeats the query in the reasons of a refusal or in a Warning header.
func TestTheErrorHidesTheQueryOfATarget(t *testing.T) {
	for name, repeat := range map[string]func(http.ResponseWriter, *http.Request){
		"not repeated": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) },
		"in a reason": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(429)
			fmt.Fprintf(w, `{"code":"BUSY","message":"refused: %s"}`, r.URL.RawQuery)
		},
		"only the value": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(429)
			fmt.Fprintf(w, `{"code":"BUSY","message":"refused: %s"}`, r.URL.Query().Get("X-Sig"))
		},
		"in a warning": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Warning", `299 - "refused: `+r.URL.RawQuery+`"`)
			w.WriteHeader(429)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newSigningFront()
			var tr trace
			c := f.client(t, &tr)
			f.part(t, c, robotRepo(), 0)
			f.valid, f.refused = 100, repeat
			_, err := c.Blob(t.Context(), robotRepo(), f.desc(), 0, 100)
			require.ErrorIs(t, err, content.ErrRateLimited)
			assert.ErrorContains(t, err, "storage.example/b")
			assert.NotContains(t, err.Error(), "signature-")
			assert.NotContains(t, tr.text.String(), "signature-")
			assert.Equal(t, name == "in a warning", strings.Contains(tr.text.String(), "refused: "))
		})
	}
}

// What a redirect's query has is masked, but neither short words nor what the URL shows
// anyway, so that the reasons of a storage can be read.
func TestTheErrorShowsWhatIsNoSecretInAQuery(t *testing.T) {
	w := newWorld(map[string]http.HandlerFunc{
		"https://reg.example": redirectTo("https://bucket-name.s3.example/path%2Fof?X-Amz-SignedHeaders=host&name=bucket-name&ns=registry.example&sig=%2Bsecret%2Fsignature&justASecret"),
		"https://bucket-name.s3.example": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(403)
			fmt.Fprint(w, `{"code":"DENIED","message":"host bucket-name for registry.example: +secret/signature, %2Bsecret%2Fsignature and justASecret"}`)
		},
	})
	_, err := read(t.Context(), newClient(t, registry.Config{WrapTransport: instead(w)}), robotRepo(), helloBlob())
	assert.ErrorContains(t, err, "DENIED: host bucket-name for registry.example: [redacted], [redacted] and [redacted]")
}

// The address of a target is checked at each connection. If its name leads to a forbidden
// address at that time, it is not dialled.
func TestTheAddressOfATargetIsCheckedAtEachConnection(t *testing.T) {
	ca, serve := namedServers(t)
	redirects, served := 0, 0
	n := &nameNetwork{addrs: map[string]string{"reg.example:443": "203.0.113.1:443", "cdn.example:443": "203.0.113.2:443"},
		servers: map[string]*httptest.Server{
			"reg.example:443": serve(func(w http.ResponseWriter, r *http.Request) {
				redirects++
				redirectTo("https://cdn.example/x")(w, r)
			}),
			"cdn.example:443": serve(func(w http.ResponseWriter, r *http.Request) {
				served++
				text(hello)(w, r)
			}),
		}}
	c := newClient(t, registry.Config{RootCAs: ca.Pool, DialContext: n.dial})
	repo := content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: credentials.Credential{}}
	for range 2 {
		_, err := read(t.Context(), c, repo, helloBlob())
		require.NoError(t, err)
	}
	assert.Equal(t, 1, redirects)
	c.CloseIdleConnections()
	n.addrs["cdn.example:443"] = "169.254.169.254:443"
	_, err := read(t.Context(), c, repo, helloBlob())
	assert.ErrorIs(t, err, content.ErrForbiddenURL)
	assert.Equal(t, 2, served)
	c.CloseIdleConnections()
}
