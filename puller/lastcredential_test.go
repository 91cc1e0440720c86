package puller_test

import (
	"context"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
)

// A countedKeyring yields credentials and counts how many of them were looked up.
type countedKeyring struct {
	creds []credentials.Credential
	asked int
}

func (r *countedKeyring) Lookup(context.Context, reference.Reference) iter.Seq2[credentials.Credential, error] {
	return func(yield func(credentials.Credential, error) bool) {
		for _, cred := range r.creds {
			r.asked++
			if !yield(cred, nil) {
				return
			}
		}
	}
}

// Under Always each credential is sent with one HEAD, whose answer has no reason. Only the
// last credential is sent again, with GET, to learn the reason. So no other wrong password
// counts twice at the registry.
func TestOnlyTheLastCredentialIsSentAgainForTheReason(t *testing.T) {
	reg, err := pullertest.Start(pullertest.Config{Auth: pullertest.AuthBasic, Users: []pullertest.User{{Name: "robot", Password: "right"}}})
	require.NoError(t, err)
	defer reg.Close()
	_, err = reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{1000}})
	require.NoError(t, err)
	var mu sync.Mutex
	var asked []string
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		_, password, _ := r.BasicAuth()
		asked = append(asked, strings.TrimSpace(r.Method+" "+password))
		mu.Unlock()
		reg.ServeHTTP(w, r)
	}))
	defer front.Close()
	took := func() []string {
		mu.Lock()
		defer mu.Unlock()
		list := asked
		asked = nil
		return list
	}
	robot := func(password string) credentials.Credential {
		return credentials.Credential{Username: "robot", Password: credentials.Conceal(password)}
	}
	client, err := registry.New(registry.Config{})
	require.NoError(t, err)
	defer client.CloseIdleConnections()
	name := strings.TrimPrefix(front.URL, "http://") + "/team/app:v1"
	ring := &countedKeyring{creds: []credentials.Credential{robot("right")}}
	rt, err := transfer.New(transfer.Config{Store: new(pullertest.MemStore), Source: client})
	require.NoError(t, err)
	p, err := puller.New(puller.Config{Runtime: rt, Keyring: ring,
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}})
	require.NoError(t, err)
	_, err = p.Pull(t.Context(), puller.Request{Image: name, Policy: pullpolicy.Always})
	require.NoError(t, err)
	took()

	ring.creds = []credentials.Credential{robot("wrong-1"), robot("wrong-2")}
	_, err = p.Pull(t.Context(), puller.Request{Image: name, Policy: pullpolicy.Always})
	assert.ErrorContains(t, err, "GET http")
	assert.ErrorContains(t, err, "UNAUTHORIZED: authentication required", "the answer to a HEAD has no such text")
	count := map[string]int{}
	for _, line := range took() {
		count[line]++
	}
	assert.Equal(t, map[string]int{"HEAD": 2, "HEAD wrong-1": 1, "HEAD wrong-2": 1, "GET": 1, "GET wrong-2": 1}, count)

	ring.creds = []credentials.Credential{robot("wrong-4"), robot("right"), robot("never")}
	ring.asked = 0
	_, err = p.Resolve(t.Context(), puller.Request{Image: name})
	require.NoError(t, err)
	assert.Equal(t, 2, ring.asked, "no credential is looked up before it is needed")
}

// A lastRuntime calls Spec.Last twice in each Pull, and refuses the credential.
type lastRuntime struct {
	puller.Runtime
	last []bool
	ring *countedKeyring
	keep func() bool
}

func (r *lastRuntime) Pull(_ context.Context, spec puller.Spec) (puller.Image, error) {
	before := r.ring.asked
	for range 2 {
		r.last = append(r.last, spec.Last())
	}
	if before == len(r.ring.creds) {
		r.keep = spec.Last
	}
	return puller.Image{}, assert.AnError
}

func TestSpecLastReportsThatNoCredentialFollows(t *testing.T) {
	cred := func(name string) credentials.Credential { return credentials.Credential{Username: name} }
	ring := &countedKeyring{creds: []credentials.Credential{cred("a"), cred("b"), cred("c")}}
	rt := &lastRuntime{ring: ring}
	p, err := puller.New(puller.Config{Runtime: rt, Keyring: ring})
	require.NoError(t, err)
	_, err = p.Pull(t.Context(), puller.Request{Image: "r.example/app:v1", Policy: pullpolicy.Always})
	assert.ErrorIs(t, err, assert.AnError)
	assert.Equal(t, []bool{false, false, false, false, true, true}, rt.last)
	assert.Equal(t, 3, ring.asked, "each is looked up once")
	assert.True(t, rt.keep(), "after the pull Last looks up nothing")

	rt.last, ring.creds = nil, nil
	_, err = p.Pull(t.Context(), puller.Request{Image: "r.example/other:v1", Policy: pullpolicy.Always})
	assert.ErrorIs(t, err, assert.AnError)
	assert.Equal(t, []bool{true, true}, rt.last, "no credential follows the anonymous attempt")
}
