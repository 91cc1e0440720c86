package main

import (
	"context"
	"fmt"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/bench/report"
	"github.com/pullkit/pullkit/reference"
	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/credentialprovider"
	kubelet "k8s.io/kubernetes/pkg/credentialprovider/secrets"
)

// pullSecrets returns n secrets with one login each, as the kubelet has them and as pullkit has
// them. Each login is for a registry of its own, but each tenth is for a path of a registry that
// they share.
func pullSecrets(n int) (theirs []v1.Secret, ours []credentials.Secret) {
	for i := range n {
		key := fmt.Sprintf("registry-%d.example:5000", i)
		if i%10 == 0 {
			key = fmt.Sprintf("shared.example/team-%d", i)
		}
		text := fmt.Appendf(nil, `{"auths":{%q:{"auth":"dXNlcjpwYXNzd29yZA=="}}}`, key)
		data := map[string][]byte{v1.DockerConfigJsonKey: text}
		theirs = append(theirs, v1.Secret{Type: v1.SecretTypeDockerConfigJson, Data: data})
		ours = append(ours, credentials.Secret{Type: credentials.TypeDockerConfigJSON, Data: credentials.ConcealData(data)})
	}
	return theirs, ours
}

// keyringImage is the image that is looked up. One of the secrets opens it.
var keyringImage = reference.MustParse("registry-7.example:5000/team/app:v1")

func buildTheirs(secrets []v1.Secret) (credentialprovider.DockerKeyring, error) {
	return kubelet.MakeDockerKeyring(secrets, credentialprovider.UnionDockerKeyring{})
}

// keyringBuilders returns the ways to build a keyring of n secrets: that of the kubelet, which
// sorts all keys again for each secret, and that of pullkit.
func keyringBuilders(n int) []task {
	theirs, ours := pullSecrets(n)
	return []task{
		{"kubelet", 1, func() error { _, err := buildTheirs(theirs); return err }},
		{"pullkit", 1, func() error { return wrongUnless(credentials.FromSecrets(ours, credentials.Rules{}) != nil) }},
	}
}

// keyringLookups returns the ways to look up an image among n secrets: that of the kubelet,
// which reads all keys, and that of pullkit.
func keyringLookups(n, calls int) ([]task, error) {
	theirs, ours := pullSecrets(n)
	their, err := buildTheirs(theirs)
	if err != nil {
		return nil, err
	}
	our := credentials.FromSecrets(ours, credentials.Rules{})
	ctx := context.Background()
	return []task{
		{"kubelet", max(1, calls*10/n), func() error {
			found, _ := their.Lookup(keyringImage.Name())
			return wrongUnless(len(found) == 1)
		}},
		{"pullkit", calls, func() error {
			found := 0
			for _, err := range our.Lookup(ctx, keyringImage) {
				if err != nil {
					return err
				}
				found++
			}
			return wrongUnless(found == 1)
		}},
	}, nil
}

// The kubelet takes long to build a keyring of manySecrets or more, and seconds for mostSecrets.
// These keyrings are therefore built in few rounds.
const (
	manySecrets = 1000
	mostSecrets = 5000
	fewRounds   = 3
)

// buildLimit is the goal for a keyring of mostSecrets, in milliseconds.
const buildLimit = 100

func compareKeyrings(size sizes) ([]*report.Table, error) {
	table := &report.Table{
		Title: "Keyrings of imagePullSecrets",
		Head:  []string{"secrets", "build: kubelet", "build: pullkit", "look-up: kubelet", "look-up: pullkit", "goal", "reached"},
	}
	var first float64 // the time of a look-up among the fewest secrets
	for _, n := range size.secrets {
		rounds := size.rounds
		if n >= manySecrets {
			rounds = min(rounds, fewRounds)
		}
		build, err := best(rounds, keyringBuilders(n)...)
		if err != nil {
			return nil, err
		}
		tasks, err := keyringLookups(n, max(1, 1000/size.part))
		if err != nil {
			return nil, err
		}
		look, err := best(size.rounds, tasks...)
		if err != nil {
			return nil, err
		}
		var goals []report.Goal
		if n >= mostSecrets {
			goals = append(goals, report.AtMost(build[1]/1e6, buildLimit, "ms to build"))
		}
		if first == 0 {
			first = look[1]
		} else {
			goals = append(goals, report.AtMost(look[1]/first, 1.5, fmt.Sprintf("x the look-up among %d", size.secrets[0])))
		}
		table.Judge("pullkit", []string{fmt.Sprint(n), pretty(build[0]), pretty(build[1]), pretty(look[0]), pretty(look[1])}, goals...)
	}
	if most := size.secrets[len(size.secrets)-1]; most >= manySecrets {
		table.Note("Keyrings of %d and more were built in %d rounds.", manySecrets, fewRounds)
	}
	return []*report.Table{table}, nil
}
