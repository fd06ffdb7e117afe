package demo

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"holdfast"
)

// story writes what the walk tells. The first error of the writer stays, and nothing is written after it.
type story struct {
	out io.Writer
	err error
}

const (
	pageWidth = 100
	indent    = "      " // of what stands under a numbered step
)

func (t *story) line(format string, args ...any) {
	if t.err == nil {
		_, t.err = io.WriteString(t.out, strings.ReplaceAll(fmt.Sprintf(format, args...), glue, " ")+"\n")
	}
}

// glue is a space at which no line may break: the one inside a sum or a card number.
const glue = "\u00a0"

// words takes text apart where its lines may break.
func words(text string) []string {
	return strings.FieldsFunc(text, func(c rune) bool { return c == ' ' || c == '\n' })
}

// say writes a sentence under the step.
func (t *story) say(format string, args ...any) {
	t.wrapped(indent, indent, words(fmt.Sprintf(format, args...)))
}

// paragraph writes text from the margin.
func (t *story) paragraph(text string) { t.wrapped("  ", "  ", words(text)) }

// wrapped writes a list of words in lines of pageWidth; a longer one has a line of its own.
func (t *story) wrapped(first, next string, list []string) {
	text, width := first, utf8.RuneCountInString(first)
	empty := true
	for _, word := range list {
		length := utf8.RuneCountInString(word)
		if !empty && width+1+length > pageWidth {
			t.line("%s", text)
			text, width, empty = next, utf8.RuneCountInString(next), true
		}
		if !empty {
			text, width = text+" ", width+1
		}
		text, width, empty = text+word, width+length, false
	}
	if !empty {
		t.line("%s", text)
	}
}

// call writes a call of the shop: what it sent and what it was answered.
func (t *story) call(x holdfast.Exchange) {
	t.wrapped(indent+"→ ", indent+"    ", append([]string{x.Method, x.Path}, digest(x.Request)...))
	if x.Err != nil {
		t.wrapped(indent+"← ", indent+"    ", append([]string{"no", "answer:"}, words(x.Err.Error())...))
		return
	}
	t.wrapped(indent+"← ", indent+"    ", append([]string{fmt.Sprintf("HTTP %d in %s", x.Status, millis(x.Duration))}, digest(x.Answer)...))
}

// notified writes a notification: what the gateway posted and what the shop answered.
func (t *story) notified(x holdfast.Exchange) {
	t.wrapped(indent+"⇐ ", indent+"    ", append([]string{"notification", "to", x.Path}, digest(x.Request)...))
	t.wrapped(indent+"⇒ ", indent+"    ", append([]string{fmt.Sprintf("HTTP %d", x.Status)}, digest(x.Answer)...))
}

// Answers describe a payment with up to fifty keys. Of an object with more than manyKeys the story shows those that it needs.
const manyKeys = 20

var telling = map[string]bool{
	"id": true, "merchantTransId": true, "initialSum": true, "totalSum": true, "selectedMethod": true, "autoCapture": true,
	"redirectUrl": true, "details": true, "status": true, "fee": true, "transferSum": true,
}

// member is a key of an object with its value, in the order in which they came.
type member struct {
	key   string
	value json.RawMessage
}

// members takes an object apart; false if the text is none.
func members(object []byte) ([]member, bool) {
	d := json.NewDecoder(bytes.NewReader(object))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, false
	}
	var list []member
	for d.More() {
		name, err := d.Token()
		key, isText := name.(string)
		var value json.RawMessage
		if err != nil || !isText || d.Decode(&value) != nil {
			return nil, false
		}
		list = append(list, member{key, value})
	}
	return list, true
}

// digest gives a body as parts to be wrapped: JSON in one line, without what says nothing or says it twice.
func digest(body []byte) []string {
	if len(body) == 0 {
		return []string{"(empty)"}
	}
	list, ok := members(body)
	if !ok {
		return words(string(body))
	}
	// Some answers carry their data twice, inside data and beside it; once is enough for a reader.
	within := map[string]bool{}
	for _, m := range list {
		if m.key == "data" {
			inner, _ := members(m.value)
			for _, i := range inner {
				within[i.key] = true
			}
		}
	}
	var parts []string
	for _, m := range list {
		if within[m.key] || m.key == "apiMessageForDevelopers" {
			continue
		}
		parts = append(parts, phrase(m)...)
	}
	return braced(parts)
}

// phrase gives one member as parts; an object's members can be wrapped one by one.
func phrase(m member) []string {
	name := `"` + m.key + `":`
	inner, ok := members(m.value)
	if !ok {
		var b bytes.Buffer
		if json.Compact(&b, m.value) != nil {
			b.Write(m.value)
		}
		return []string{name + b.String() + ","}
	}
	var parts []string
	left := 0
	for _, i := range inner {
		if len(inner) > manyKeys && (!telling[i.key] || string(i.value) == "null") {
			left++
			continue
		}
		parts = append(parts, phrase(i)...)
	}
	parts = braced(parts)
	if left > 0 {
		parts[len(parts)-1] = strings.TrimSuffix(parts[len(parts)-1], "}") + ","
		parts = append(parts, fmt.Sprintf("… %d more keys}", left))
	}
	parts[0] = name + parts[0]
	parts[len(parts)-1] += ","
	return parts
}

// braced puts members into braces and takes the last comma away.
func braced(parts []string) []string {
	if len(parts) == 0 {
		return []string{"{}"}
	}
	parts[0] = "{" + parts[0]
	last := len(parts) - 1
	parts[last] = strings.TrimSuffix(parts[last], ",") + "}"
	return parts
}

// row is a line of the table at the end.
type row struct {
	Flow                                     string
	Held, Captured, GivenBack, Refunded, Fee int64 // minor units
	TookMillis                               int64
}

// table writes the summary.
func (t *story) table(rows []row) {
	cells := [][]string{{"flow", "held", "captured", "given back", "refunded", "fee", "took"}}
	for _, r := range rows {
		cells = append(cells, []string{
			r.Flow, sums(r.Held), sums(r.Captured), sums(r.GivenBack), sums(r.Refunded), sums(r.Fee), fmt.Sprintf("%d ms", r.TookMillis),
		})
	}
	widths := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, line := range cells {
		var b strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString("  " + cell + pad)
			} else {
				b.WriteString("  " + pad + cell)
			}
		}
		t.line("%s", b.String())
		if n == 0 {
			t.line("  %s", strings.Repeat("─", utf8.RuneCountInString(b.String())-2))
		}
	}
}

// differ is the sentence of an expectation that failed.
func differ(what string, got, want any) error {
	return fmt.Errorf("%s: expected %v, got %v", what, cmp.Or(fmt.Sprint(want), "nothing"), cmp.Or(fmt.Sprint(got), "nothing"))
}
