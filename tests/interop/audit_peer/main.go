// The second opinion on our audit log: golang.org/x/mod/sumdb's note and tlog packages behind a line of JSON.
//
// It reads a request a line from standard input and answers a line each. Whatever is wrong with what it is shown is the
// answer's "error"; it exits only at the end of the input. Nothing in here knows our Python: the specifications are
// c2sp.org/{signed-note,tlog-checkpoint,tlog-tiles,tlog-cosignature,tlog-proof}.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

type request struct {
	Op        string   `json:"op"`
	Dir       string   `json:"dir"`       // a log's folder
	Log       string   `json:"log"`       // the log's vkey
	Witnesses []string `json:"witnesses"` // vkeys, type 0x04
	Quorum    int      `json:"quorum"`    // how many of them
	Note      []byte   `json:"note"`
	Proof     []byte   `json:"proof"` // a .tlog-proof file
	Entry     []byte   `json:"entry"`
	Entries   [][]byte `json:"entries"`
	Signer    string   `json:"signer"` // a signer key of package note
	Index     int64    `json:"index"`
	Old       int64    `json:"old"`
	OldRoot   []byte   `json:"old_root"`
	Size      int64    `json:"size"`
	Root      []byte   `json:"root"`
	Path      [][]byte `json:"path"`
}

type answer struct {
	Error   string   `json:"error,omitempty"`
	Origin  string   `json:"origin,omitempty"`
	Size    int64    `json:"size"`
	Root    []byte   `json:"root,omitempty"`
	Path    [][]byte `json:"path,omitempty"`
	Note    []byte   `json:"note,omitempty"`
	Signers int      `json:"signers"`
	Seconds float64  `json:"seconds,omitempty"`
}

var operations = map[string]func(request) (answer, error){
	"note":              openNote,
	"proof":             checkProof,
	"check-inclusion":   checkInclusion,
	"check-consistency": checkConsistency,
	"prove-inclusion":   proveInclusion,
	"prove-consistency": proveConsistency,
	"fsck":              fsck,
	"write":             write,
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<30)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		if err := out.Encode(perform(lines.Bytes())); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func perform(line []byte) (a answer) {
	defer func() {
		if r := recover(); r != nil {
			a = answer{Error: fmt.Sprint("panic: ", r)}
		}
	}()
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return answer{Error: "request: " + err.Error()}
	}
	operation, ok := operations[r.Op]
	if !ok {
		return answer{Error: "no such operation: " + r.Op}
	}
	a, err := operation(r)
	if err != nil {
		return answer{Error: err.Error()}
	}
	return a
}
