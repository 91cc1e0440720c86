package credentials

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// dockerAuthConfig is the variable of the environment that docker, and the tools of
// CI systems, read credentials from. Its value is a secret.
const dockerAuthConfig = "DOCKER_AUTH_CONFIG"

// ReadDocker reads what docker reads, in docker's order: the variable
// DOCKER_AUTH_CONFIG, then the file of [DockerPaths]. Credentials of the variable
// are tried before the programs that the file names (see [Config.WithHelpers]) and
// before the file's own. Where there is neither variable nor file, the Config is
// empty and there is no error.
//
// The variable holds a document with auths alone, and each of its entries holds
// auth alone. One that holds anything else is not used at all, as by docker, and is
// listed by [Config.Problems]; the file is used then. An unusable file is an error
// only if the variable cannot be used either.
//
// No other call of this package reads the variable, and no program that is started
// inherits it: see [Exec].
func ReadDocker() (*Config, error) {
	value := os.Getenv(dockerAuthConfig)
	if value == "" {
		return FindConfig(DockerPaths()...)
	}
	origin := Origin{Kind: KindVariable, Name: dockerAuthConfig}
	es := entries{}
	varErr := es.addVariable(origin, value)
	file, err := FindConfig(DockerPaths()...)
	if err != nil && varErr != nil {
		return nil, fmt.Errorf("no credentials of docker can be used: %w", &leftOutError{[]error{&EntryError{origin, varErr}, err}})
	}
	c := file.orZero()
	if varErr == nil {
		c.variable = &Config{table: newTable(Rules{}, es.list), problems: es.problems}
	} else {
		c.problems = append(problemList{{EntryError: &EntryError{origin, varErr}}}, c.problems...)
	}
	var entry *EntryError
	if errors.As(err, &entry) { // of the one file that docker reads
		c.problems = append(c.problems, problem{EntryError: entry})
	}
	return c, nil
}

// addVariable reads the value of DOCKER_AUTH_CONFIG as strictly as docker does. On
// error es is as before.
func (es *entries) addVariable(origin Origin, value string) error {
	if strings.TrimSpace(value) == "" {
		return nil
	}
	if err := checkJSON([]byte(value)); err != nil {
		return err
	}
	top, err := readObject([]byte(value))
	if err != nil {
		return err
	}
	var auths []member
	for _, m := range top {
		if !strings.EqualFold(m.Key, "auths") {
			return fmt.Errorf("holds %s, where docker takes nothing but auths in this variable", quoteName(m.Key))
		}
		more, err := readObject(m.Value)
		if err != nil {
			return &fieldError{"auths", err}
		}
		auths = append(auths, more...)
	}
	for _, m := range auths {
		if err := checkVariableEntry(m); err != nil {
			return fmt.Errorf("key %s: %w", quote(redactKey(m.Key)), err)
		}
	}
	es.addAuths(origin, auths)
	return nil
}

// checkVariableEntry refuses an entry of which docker refuses the whole variable.
func checkVariableEntry(m member) error {
	fields, err := readObject(m.Value)
	if err != nil {
		return fmt.Errorf("entry %w%s", err, entryHint(m))
	}
	auth := ""
	for _, f := range fields {
		if !strings.EqualFold(f.Key, "auth") {
			return fmt.Errorf("holds %s, where docker takes nothing but auth in this variable", quoteName(f.Key))
		}
		if auth, _, err = readString(f.Value); err != nil {
			return fmt.Errorf("auth %w", err)
		}
	}
	if auth == "" {
		return errors.New("auth is missing, which docker requires in this variable")
	}
	username, _, err := decodeAuth(auth)
	if err == nil && username == "" {
		err = errors.New("holds no user name")
	}
	if err != nil {
		return fmt.Errorf("auth %w%s", err, authHint(auth))
	}
	return nil
}
