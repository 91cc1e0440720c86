// Package report prints measurements as Markdown: tables, goals with whether they are met, and
// the load of the machine.
package report
