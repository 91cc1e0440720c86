package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
)

// staleThenValid answers 401 to the first credential and 404 to the others.
func staleThenValid() func(context.Context, credentials.Credential) (string, error) {
	status := 401
	return func(context.Context, credentials.Credential) (string, error) {
		defer func() { status = 404 }()
		return "", credentials.WithStatus(fmt.Errorf("the registry answered %d", status), status)
	}
}

func ExampleVerdictOf() {
	ref := reference.MustParse("registry.example/team/app:v1")
	_, err := credentials.Each(context.Background(), config(), ref, staleThenValid())
	fmt.Println(credentials.VerdictOf(err), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission))
	// Output: absent true false
}

func ExampleVerdict() {
	ref := reference.MustParse("registry.example/team/app:v1")
	_, err := credentials.Each(context.Background(), config(), ref, staleThenValid())
	switch credentials.VerdictOf(err) {
	case credentials.VerdictAbsent:
		fmt.Println("no such image")
	case credentials.VerdictDenied, credentials.VerdictUnauthorized:
		fmt.Println("no credential opens it")
	default:
		fmt.Println("not known:", err)
	}
	// Output: no such image
}

func ExampleWithStatus() {
	err := credentials.WithStatus(errors.New("the answer of an HTTP library"), 403)
	fmt.Println(err, credentials.VerdictOf(err), errors.Is(err, fs.ErrPermission))
	// Output: the answer of an HTTP library denied true
}

// A limited error is the answer of a registry that asks its clients to wait.
type limited struct{ error }

func (limited) Verdict() credentials.Verdict { return credentials.VerdictUnavailable }

func ExampleVerdicter() {
	var err credentials.Verdicter = limited{errors.New("slow down")}
	fmt.Println(credentials.VerdictOf(fmt.Errorf("pull: %w", err)))
	// Output: unavailable
}
