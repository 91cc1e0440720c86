package credentials

import (
	"context"
	"iter"
	"slices"
	"testing"

	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	_ PodKeyring    = joined{}
	_ Fingerprinter = joinedPrints{}
	_ Explainer     = joined{}
	_ PodKeyring    = (*providers)(nil)
	_ PodKeyring    = (*pullSecrets)(nil)
	_ Fingerprinter = (*providers)(nil)
	_ Explainer     = (*providers)(nil)
	_ Fingerprinter = (*File)(nil)
	_ Explainer     = (*File)(nil)
	_ Lister        = (*File)(nil)
	_ Fingerprinter = (*pullSecrets)(nil)
	_ Explainer     = (*pullSecrets)(nil)
	_ Lister        = (*pullSecrets)(nil)
	_ Fingerprinter = (*helper)(nil)
	_ Explainer     = (*helper)(nil)
	_ Fingerprinter = Static(nil)
	_ Explainer     = Static(nil)
)

func TestJoinLeavesOutRepeatedCredentials(t *testing.T) {
	a := Credential{Username: "a", Password: Conceal("1")}
	b := Credential{Username: "b", IdentityToken: Conceal("2")}
	again := a
	again.Origin = Origin{Kind: KindFile, Name: "config.json"}
	var many Static
	for i := range 10 {
		many = append(many, Credential{Username: string(rune('c' + i))})
	}
	ring := Join(Static{a, b}, nil, Static{again, b}, many, Join(many, Static{{}}))
	creds, errs := collect(t.Context(), ring, "nginx")
	assert.Empty(t, errs)
	require.Len(t, creds, 13)
	assert.Equal(t, Origin{Kind: KindStatic}, creds[0].Origin)
	assert.True(t, creds[12].Anonymous())
}

// wrapped is a keyring of another package that forwards all of a File's methods.
type wrapped struct{ file *File }

func (w wrapped) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	return w.file.Lookup(ctx, ref)
}
func (w wrapped) Fingerprint(ref reference.Reference) uint64     { return w.file.Fingerprint(ref) }
func (w wrapped) Explain(ref reference.Reference) iter.Seq[Note] { return w.file.Explain(ref) }
func (w wrapped) All() iter.Seq[Credential]                      { return w.file.All() }

// TestJoinLeavesOutOnlyWhatAnEarlierRingHas holds that Join removes duplicates between rings
// and keeps those within one, and that only the candidates decide it: a ring gives the same
// result alone, joined, joined within joined rings, wrapped, and with helpers.
func TestJoinLeavesOutOnlyWhatAnEarlierRingHas(t *testing.T) {
	doc := []byte(`{"auths":{"r.io/team":{"auth":"dTpw"},"r.io":{"auth":"dTpw"}}}`)
	for rules, alone := range map[Rules]int{{}: 1, {Kubelet: true}: 2} {
		f, err := ParseFile(doc, "config.json", rules)
		require.NoError(t, err)
		other := Static{{Username: "other"}}
		for name, ring := range map[string]Keyring{"file": f, "wrapped": wrapped{f}, "with helpers": f.WithHelpers(Exec{})} {
			for want, rings := range map[int][]Keyring{
				alone:     {ring, Join(ring), Join(ring, ring), Join(ring, Join(ring, ring)), Join(Join(ring, ring), ring), Join(ring, f), Join(f, ring), Join(ring).For(Pod{Namespace: "n"})},
				alone + 1: {Join(ring, other), Join(Join(ring, other)), Join(ring, Join(ring, other)), Join(Join(ring, other), ring), Join(other, ring)},
			} {
				for i, ring := range rings {
					creds, errs := collect(t.Context(), ring, "r.io/team/app")
					assert.Empty(t, errs)
					assert.Len(t, creds, want, "%s, %v, %d", name, rules, i)
					matched := 0
					for note := range ring.(Explainer).Explain(reference.MustParse("r.io/team/app")) {
						if note.Matched {
							matched++
						}
					}
					assert.Equal(t, want, matched, "Explain of %s, %v, %d", name, rules, i)
				}
			}
		}
	}
}

func TestZeroKeyringsAreEmpty(t *testing.T) {
	for _, ring := range []Keyring{new(File), (*File)(nil), Join((*File)(nil)), (*File)(nil).WithHelpers(Exec{}), new(pullSecrets), new(providers), Static(nil), Join(),
		Join(new(pullSecrets), new(providers)), new(pullSecrets).For(Pod{Namespace: "n"}), new(providers).For(Pod{}),
	} {
		creds, errs := collect(t.Context(), ring, "nginx")
		assert.Empty(t, creds)
		assert.Empty(t, errs)
		assert.Empty(t, slices.Collect(ring.(Explainer).Explain(reference.MustParse("nginx"))))
		ring.(Fingerprinter).Fingerprint(reference.MustParse("nginx"))
		assert.Empty(t, Problems(ring))
	}
	_, dropped, err := MarshalConfig(Join((*File)(nil), new(pullSecrets), new(providers)))
	assert.NoError(t, err)
	assert.Empty(t, dropped)
	assert.Empty(t, slices.Collect(Join(nil).For(Pod{Namespace: "n"}).(Explainer).Explain(reference.MustParse("nginx"))))
}

// TestFingerprintChangesWithTheCandidates holds that a fingerprint changes if the
// candidates for the image change, and only then.
func TestFingerprintChangesWithTheCandidates(t *testing.T) {
	ref, other := reference.MustParse("r.io/app"), reference.MustParse("q.io/app")
	of := func(text string) uint64 {
		c, err := ParseFile([]byte(text), "config.json", Rules{})
		require.NoError(t, err)
		return Join(c).(Fingerprinter).Fingerprint(ref)
	}
	one := of(`{"auths":{"r.io":{"username":"u","password":"p"}}}`)
	assert.Equal(t, one, of(`{"auths":{"q.io":{"username":"x","password":"y"},"r.io":{"auth":"dTpw"}}}`))
	for _, text := range []string{
		`{"auths":{"r.io":{"username":"u","password":"q"}}}`,
		`{"auths":{"r.io":{"username":"up","password":""}}}`,
		`{"auths":{"r.io":{"username":"u","identitytoken":"p"}}}`,
		`{"auths":{"r.io":{"username":"u","registrytoken":"p"}}}`,
		`{"auths":{"r.io":{"username":"u","password":"p"},"r.io/app":{"username":"v","password":"p"}}}`,
		`{}`,
	} {
		assert.NotEqual(t, one, of(text), text)
	}
	c := configOf(t, "r.io")
	assert.NotEqual(t, c.Fingerprint(ref), c.Fingerprint(other))

	secret := func(password string) *pullSecrets {
		data, err := DockerConfig{Server: "r.io", Username: "u", Password: Conceal(password)}.JSON()
		require.NoError(t, err)
		return fromSecrets([]Secret{{Name: "s", Type: TypeDockerConfigJSON, Data: map[string]Sensitive{KeyDockerConfigJSON: Conceal(string(data))}}}, Rules{})
	}
	assert.Equal(t, secret("p").Fingerprint(ref), secret("p").Fingerprint(ref))
	assert.NotEqual(t, secret("p").Fingerprint(ref), secret("repaired").Fingerprint(ref))
}

func TestFingerprintChangesWithThePod(t *testing.T) {
	p := testProvider("")
	p.Token = &tokenAttributes{Audience: "aud", CacheType: cacheByServiceAccount, OptionalAnnotations: []string{"example.com/role"}}
	ps := testProviders(t, ProviderConfig{}, p)
	of := func(pod Pod) uint64 {
		return forPod(Join(ps), pod).(Fingerprinter).Fingerprint(reference.MustParse("r.io/app"))
	}
	web := Pod{Namespace: "web", Name: "a", ServiceAccount: ServiceAccount{Name: "builder", UID: "1"}}
	twin := web
	twin.Name = "b"
	assert.Equal(t, of(web), of(twin))
	ps.list[0].Token.CacheType = cacheByToken
	assert.NotEqual(t, of(web), of(twin))
	ps.list[0].Token.CacheType = cacheByServiceAccount
	seen := []uint64{of(web), of(Pod{})}
	for _, change := range []func(*Pod){
		func(p *Pod) { p.Namespace = "db" },
		func(p *Pod) { p.ServiceAccount.Name = "other" },
		func(p *Pod) { p.ServiceAccount.UID = "2" },
		func(p *Pod) { p.Annotations = map[string]string{"example.com/role": "x"} },
	} {
		pod := web
		change(&pod)
		assert.NotContains(t, seen, of(pod))
		seen = append(seen, of(pod))
	}
}

// TestExplainMarksRepeatedCredentials holds that Explain marks as matching only one of the
// entries with the same credential: the one that Lookup yields.
func TestExplainMarksRepeatedCredentials(t *testing.T) {
	doc := []byte(`{"auths":{"r.io/team":{"auth":"dTpw"},"r.io":{"auth":"dTpw"}}}`)
	for _, kubelet := range []bool{false, true} {
		rules := Rules{Kubelet: kubelet}
		config, err := ParseFile(doc, "config.json", rules)
		require.NoError(t, err)
		ring := Join(config, config, Static{{Username: "u", Password: Conceal("p")}, {}, {}})
		creds, _ := collect(t.Context(), config, "r.io/team/app")
		joined, _ := collect(t.Context(), ring, "r.io/team/app")
		matching := func(ring Keyring) (n int) {
			for note := range ring.(Explainer).Explain(reference.MustParse("r.io/team/app")) {
				if note.Matched {
					n++
				} else {
					assert.Equal(t, "matches, but the same credential comes before it", note.Why)
				}
			}
			return n
		}
		assert.Equal(t, len(creds), matching(config), "kubelet %v", kubelet)
		assert.Equal(t, len(joined), matching(ring), "kubelet %v", kubelet)
	}
}

func TestExplainHasANoteForEachEntry(t *testing.T) {
	ring := Join(configOf(t, "*.io", "r.io/team", "r.io:5000", "r.io/other", "q.io", "q.io:5000", "*.io:5000", "*.q.io:5000", "a.b.io"), Static{{Username: "s"}})
	notes := slices.Collect(ring.(Explainer).Explain(reference.MustParse("r.io/team/app")))
	type line struct {
		key     string
		matched bool
		why     keys.Result
	}
	var got []line
	for _, n := range notes {
		got = append(got, line{n.Origin.Key, n.Matched, keys.Result(n.Why)})
	}
	assert.Equal(t, []line{
		{"r.io:5000", false, keys.OtherPort},
		{"r.io/team", true, keys.Matched},
		{"r.io/other", false, keys.OtherPath},
		{"q.io:5000", false, keys.OtherHost}, // not only the port
		{"q.io", false, keys.OtherHost},
		{"a.b.io", false, keys.OtherHost},
		{"*.q.io:5000", false, keys.OtherHost},
		{"*.io:5000", false, keys.OtherPort},
		{"*.io", true, keys.Matched},
		{"", true, "given for every image"},
	}, got)

	// The entries that match are those that Lookup yields, in its order.
	creds, _ := collect(t.Context(), ring, "r.io/team/app")
	var lookedUp, explained []Origin
	for _, c := range creds {
		lookedUp = append(lookedUp, c.Origin)
	}
	for _, n := range notes {
		if n.Matched {
			explained = append(explained, n.Origin)
		}
	}
	assert.Equal(t, lookedUp, explained)

	secrets := fromSecrets(manySecrets(t, 1), Rules{})
	assert.Len(t, slices.Collect(secrets.Explain(reference.MustParse("shared.example/team-0/app"))), 2)

	hub, err := ParseFile([]byte(`{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"r.io":{"auth":"dTpw"}}}`), "config.json", Rules{Kubelet: true})
	require.NoError(t, err)
	notes = slices.Collect(hub.Explain(reference.MustParse("nginx")))
	require.Len(t, notes, 2)
	assert.False(t, notes[0].Matched)
	assert.True(t, notes[1].Matched)
	assert.Equal(t, string(hubFallback), notes[1].Why)
}

func TestExplainRunsNoPlugins(t *testing.T) {
	p := testProvider("")
	p.MatchImages = []string{"q.io", "*.io"}
	p.Token = &tokenAttributes{Audience: "aud", CacheType: cacheByToken, RequireServiceAccount: true, RequiredAnnotations: []string{"a"}}
	ps := testProviders(t, ProviderConfig{}, p)
	note := func(pod Pod, image string) Note {
		notes := slices.Collect(forPod(ps, pod).(Explainer).Explain(reference.MustParse(image)))
		require.Len(t, notes, 1)
		return notes[0]
	}
	assert.Equal(t, Note{Origin: Origin{Kind: KindPlugin, Name: "test-plugin"}, Why: "no entry of matchImages matches: the host is another one"},
		note(Pod{}, "r.example/app"))
	assert.False(t, note(Pod{}, "r.io/app").Matched)
	assert.False(t, note(Pod{ServiceAccount: ServiceAccount{Name: "x"}}, "r.io/app").Matched)
	n := note(Pod{ServiceAccount: ServiceAccount{Name: "x"}, Annotations: map[string]string{"a": ""}}, "r.io/app")
	assert.True(t, n.Matched)
	assert.Equal(t, "*.io", n.Origin.Key)
}

// TestJoinIsAFingerprinterOnlyIfAllRingsAre holds that Join returns a Fingerprinter only if
// all rings are. A fingerprint without one of the rings would be equal for unequal
// candidates.
func TestJoinIsAFingerprinterOnlyIfAllRingsAre(t *testing.T) {
	blind := struct{ Keyring }{Static{{Username: "u"}}}
	_, ok := Join(Static{}, blind).(Fingerprinter)
	assert.False(t, ok)
	_, ok = Join(Static{}, nil, Static{}).(Fingerprinter)
	assert.True(t, ok)
	bad := FromSecrets([]Secret{{Name: "bad", Type: TypeDockerConfigJSON, Data: ConcealData(map[string][]byte{KeyDockerConfigJSON: []byte("{")})}}, Rules{})
	assert.Len(t, Problems(Join(Static{}, bad)), 1)
}
