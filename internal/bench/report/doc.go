// Package report prints what was measured as Markdown: tables, goals that are met
// or not, and the load of the machine meanwhile.
package report
