package puller_test

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"slices"
	"sync"
	"testing"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A mirrorNode is a node with records, whose registry has a mirror.
type mirrorNode struct {
	*puller.Puller
	reg, mirror *pullertest.Registry
	records     *records.Dir
	image       string
}

// newMirrorNode makes a registry and its mirror, and puts an image into both. Each has one
// user, whose password is regUser or mirrorUser. If that is "", the registry or the mirror
// is open.
func newMirrorNode(t *testing.T, regUser, mirrorUser string, client registry.Config, ring credentials.Keyring) mirrorNode {
	t.Helper()
	start := func(user string) *pullertest.Registry {
		conf := pullertest.Config{}
		if user != "" {
			conf = pullertest.Config{Auth: pullertest.AuthBearer, Users: []pullertest.User{{Name: "robot", Password: user}}}
		}
		reg, err := pullertest.Start(conf)
		require.NoError(t, err)
		t.Cleanup(func() { _ = reg.Close() })
		_, err = reg.PutImage("team/app:v1", pullertest.ImageSpec{})
		require.NoError(t, err)
		return reg
	}
	n := mirrorNode{reg: start(regUser), mirror: start(mirrorUser)}
	n.image = n.reg.Host() + "/team/app:v1"
	client.PlainHTTP = []string{n.reg.Host()}
	client.Registries = map[string]registry.Hosts{n.reg.Host(): {Mirrors: []registry.Host{{URL: n.mirror.URL()}}}}
	if client.MirrorKeyring != nil {
		client.MirrorKeyring = pullSecret("", n.mirror.Host(), mirrorUser)
	}
	source, err := registry.New(client)
	require.NoError(t, err)
	t.Cleanup(source.CloseIdleConnections)
	store, err := layout.Open(t.TempDir(), layout.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	rt, err := transfer.New(transfer.Config{Store: store, Source: source})
	require.NoError(t, err)
	n.records, err = records.Open(t.TempDir())
	require.NoError(t, err)
	n.Puller, err = puller.New(puller.Config{Runtime: rt, Records: n.records, Keyring: ring, Parallel: -1})
	require.NoError(t, err)
	return n
}

// request returns a request for the image, for a Pod that has a secret for server in its
// namespace.
func (n mirrorNode) request(namespace, server, password string) puller.Request {
	req := puller.Request{Image: n.image, Pod: credentials.Pod{Namespace: namespace, UID: "pod-" + namespace}, Policy: pullpolicy.IfNotPresent}
	if server != "" {
		req.Keyring = pullSecret(namespace, server, password)
	}
	return req
}

func (n mirrorNode) access(t *testing.T, img puller.Image) records.Access {
	t.Helper()
	rec, err := n.records.Record(t.Context(), img.ID)
	require.NoError(t, err)
	return rec.Names[reference.MustParse(n.image).Name()]
}

// The records say which Pods may use the image because of the mirror's answer. A
// credential for the registry does not count, because the registry was not asked.
func TestTheRecordsHaveTheCredentialThatAMirrorAccepted(t *testing.T) {
	someKeyring := credentials.Static(nil)
	for name, tt := range map[string]struct {
		mirrorUser string
		client     registry.Config
		nodes      bool // the node's keyring has the mirror's credential
		pods       bool // the Pod's keyring has it
		everybody  bool
	}{
		"an open mirror":               {everybody: true},
		"the node's, by MirrorKeyring": {mirrorUser: "m-pw", client: registry.Config{MirrorKeyring: someKeyring}, everybody: true},
		"the node's keyring":           {mirrorUser: "m-pw", nodes: true, everybody: true},
		"the Pod's":                    {mirrorUser: "m-pw", pods: true},
	} {
		t.Run(name, func(t *testing.T) {
			ring := &lateKeyring{}
			n := newMirrorNode(t, "reg-pw", tt.mirrorUser, tt.client, ring)
			if tt.nodes {
				ring.Keyring = pullSecret("", n.mirror.Host(), tt.mirrorUser)
			}
			req := n.request("a", n.reg.Host(), "reg-pw") // right for the registry, which is not asked
			if tt.pods {
				req = n.request("a", n.mirror.Host(), tt.mirrorUser)
			}
			img, err := n.Pull(t.Context(), req)
			require.NoError(t, err)
			assert.Zero(t, n.reg.Counts().Total(), "the registry is not asked")
			access := n.access(t, img)
			assert.Equal(t, tt.everybody, access.Everybody)
			if !tt.pods {
				assert.Empty(t, access.Secrets)
				return
			}
			require.Len(t, access.Secrets, 1)
			assert.Equal(t, "uid-a", access.Secrets[0].UID)

			// The Pod may use the image again. Another Pod with the same secret may use it too. No
			// other Pod may.
			asked := n.mirror.Counts().Total()
			for _, namespace := range []string{"a", "b"} {
				_, err = n.Pull(t.Context(), n.request(namespace, n.mirror.Host(), tt.mirrorUser))
				require.NoError(t, err)
			}
			assert.Equal(t, asked, n.mirror.Counts().Total(), "present, and allowed by the records")
			for _, req := range []puller.Request{n.request("c", "", ""), n.request("c", n.mirror.Host(), "guess"), n.request("c", n.reg.Host(), "m-pw"), n.request("c", "other.example", "m-pw")} {
				_, err = n.Pull(t.Context(), req)
				assert.ErrorIs(t, err, fs.ErrPermission)
			}
			_, err = n.Pull(t.Context(), n.request("d", n.reg.Host(), "reg-pw"))
			require.NoError(t, err, "the registry admits it")
			assert.Len(t, n.access(t, img).Secrets, 3)
		})
	}
}

// A lateKeyring is a Keyring that can be set after the Puller was made.
type lateKeyring struct{ credentials.Keyring }

func (k *lateKeyring) ring() credentials.Keyring { return credentials.Join(k.Keyring) }

func (k *lateKeyring) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[credentials.Credential, error] {
	return k.ring().Lookup(ctx, ref)
}

// The Client remembers for a minute which credential a mirror accepted. A pull that uses
// this memory is also recorded for the Pod that has the credential.
func TestARememberedCredentialOfAMirrorIsRecordedAsThePods(t *testing.T) {
	n := newMirrorNode(t, "reg-pw", "m-pw", registry.Config{}, nil)
	for _, tag := range []string{"v1", "v2"} {
		_, err := n.mirror.PutImage("team/app:"+tag, pullertest.ImageSpec{Layers: []int64{int64(len(tag)) + int64(tag[1])}})
		require.NoError(t, err)
		req := n.request("a", n.mirror.Host(), "m-pw")
		req.Image = n.reg.Host() + "/team/app:" + tag
		img, err := n.Pull(t.Context(), req)
		require.NoError(t, err)
		access := n.access(t, img)
		assert.False(t, access.Everybody)
		require.Len(t, access.Secrets, 1)
		assert.Equal(t, "uid-a", access.Secrets[0].UID)
	}
}

// Pulls at the same time are shared only if their credentials for the mirrors are equal
// too.
func TestPullsWithOtherCredentialsForAMirrorAreNotShared(t *testing.T) {
	n := newMirrorNode(t, "reg-pw", "m-pw", registry.Config{}, nil)
	errs := map[string]error{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 5 {
		for name, req := range map[string]puller.Request{
			"good": n.request("a", n.mirror.Host(), "m-pw"), "wrong": n.request("b", n.mirror.Host(), "guess"), "none": n.request("c", "", ""),
		} {
			all.Go(func() {
				_, err := n.Pull(t.Context(), req)
				mu.Lock()
				defer mu.Unlock()
				errs[name] = errors.Join(errs[name], err)
			})
		}
	}
	all.Wait()
	assert.NoError(t, errs["good"])
	assert.ErrorContains(t, errs["wrong"], "401")
	assert.ErrorContains(t, errs["none"], "401")
}

// A keyring without keys yields the same credentials for every name. A mirror does not get
// them.
func TestAKeyringWithoutKeysGivesAMirrorNothing(t *testing.T) {
	static := credentials.Static{{Username: "robot", Password: credentials.Conceal("one")}, {Username: "robot", Password: credentials.Conceal("m-pw")}}
	byName := keyringByName{}
	for name, tt := range map[string]struct {
		request, node credentials.Keyring
		fails         bool
	}{
		"the request's Static":            {request: static, fails: true},
		"the node's Static":               {node: static, fails: true},
		"a keyring that answers by names": {request: byName},
	} {
		t.Run(name, func(t *testing.T) {
			n := newMirrorNode(t, "reg-pw", "m-pw", registry.Config{}, tt.node)
			req := n.request("a", "", "")
			req.Keyring = tt.request
			byName[n.mirror.Host()] = "m-pw"
			_, err := n.Pull(t.Context(), req)
			if tt.fails {
				assert.ErrorIs(t, err, fs.ErrPermission)
				return
			}
			require.NoError(t, err)
		})
	}
}

// A keyringByName has a password for each registry, and no keys.
type keyringByName map[string]string

func (k keyringByName) Lookup(_ context.Context, ref reference.Reference) iter.Seq2[credentials.Credential, error] {
	return func(yield func(credentials.Credential, error) bool) {
		if password, ok := k[ref.Registry()]; ok {
			yield(credentials.Credential{Username: "robot", Password: credentials.Conceal(password)}, nil)
		}
	}
}

// A repaired secret for a mirror lets one attempt through the back-off.
func TestARepairedSecretOfAMirrorEndsTheBackOff(t *testing.T) {
	n := newMirrorNode(t, "reg-pw", "m-pw", registry.Config{}, nil)
	_, err := n.Pull(t.Context(), n.request("a", n.mirror.Host(), "guess"))
	require.Error(t, err)
	_, err = n.Pull(t.Context(), n.request("a", n.mirror.Host(), "guess"))
	require.ErrorIs(t, err, puller.ErrImagePullBackOff)
	_, err = n.Pull(t.Context(), n.request("a", n.mirror.Host(), "m-pw"))
	require.NoError(t, err)
}

// A mirror gets no Secret of another namespace than the Pod's.
func TestAMirrorIsNotShownASecretOfAnotherNamespace(t *testing.T) {
	n := newMirrorNode(t, "reg-pw", "m-pw", registry.Config{}, nil)
	req := n.request("a", "", "")
	req.Keyring = pullSecret("b", n.mirror.Host(), "m-pw")
	_, err := n.Pull(t.Context(), req)
	assert.ErrorIs(t, err, fs.ErrPermission)
	assert.False(t, slices.ContainsFunc(asAttempts(err), func(a credentials.Attempt) bool { return a.Err == nil }))
}

func asAttempts(err error) []credentials.Attempt {
	var e *puller.Error
	if errors.As(err, &e) {
		return e.Attempts
	}
	return nil
}

// Explain lists the credentials for mirrors, with the mirror's name.
func TestExplainListsTheCredentialsForMirrors(t *testing.T) {
	n := newMirrorNode(t, "reg-pw", "m-pw", registry.Config{}, credentials.Static{{Username: "robot", Password: credentials.Conceal("x")}})
	d, err := n.Explain(t.Context(), n.request("a", n.mirror.Host(), "m-pw"))
	require.NoError(t, err)
	var listed []puller.Candidate
	for _, c := range d.Candidates {
		if c.Mirror != "" {
			listed = append(listed, c)
		}
	}
	require.Len(t, listed, 1)
	assert.Equal(t, "uid-a", listed[0].UID)
	assert.Equal(t, n.mirror.Host()+"/team/app", listed[0].Mirror)
	assert.Zero(t, listed[0].Order)
	assert.Contains(t, d.String(), "for the mirror "+n.mirror.Host()+"/team/app")
	assert.NotContains(t, d.String(), "m-pw")
}
