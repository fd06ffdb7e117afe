package svgate

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestMaskPhone(t *testing.T) {
	for mask, want := range map[string]string{
		"+99890*****33":      "+998** *****33",
		"99890*****33":       "+998** *****33",
		"+998 90 *** ** 33":  "+998** *****33",
		"998*******33":       "+998** *****33",
		"*****1233":          "+998** *****33",
		"90***-**-33":        "+998** *****33",
		"+998 (90) xxx-xx-3": "+998** *******",
		"+99890#####33":      "+998** *****33",
		"998901234533":       "+998** *****33", // not masked at all: we do it
		"+7 916 *** ** 12":   "+*********12",
		"":                   "+998** *******",
		"***":                "+998** *******",
	} {
		if got := maskPhone(mask); got != want {
			t.Errorf("%q becomes %q, want %q", mask, got, want)
		}
	}
}

// TestHoldMinutes: long enough, never longer than the centre allows, and the salt is in it.
func TestHoldMinutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ref := fmt.Sprintf("%d_%d", rapid.Int64Range(1e12, 2e12).Draw(t, "ms"), rapid.IntRange(1, 1<<31-1).Draw(t, "number"))
		lasts := time.Duration(rapid.Int64Range(0, int64(31*24*time.Hour)).Draw(t, "lasts"))
		minutes, ok := holdMinutes(ref, lasts)
		if minutes%saltMinutes != salt(ref) {
			t.Fatalf("%d minutes have the salt %d, not %d", minutes, minutes%saltMinutes, salt(ref))
		}
		if time.Duration(minutes)*time.Minute > longestHold {
			t.Fatalf("%d minutes are more than 30 days", minutes)
		}
		if long := time.Duration(minutes)*time.Minute >= lasts+outlives; long != ok {
			t.Fatalf("%d minutes for %v: ok is %v", minutes, lasts, ok)
		}
		if !ok && lasts <= longestHold-outlives-saltMinutes*time.Minute {
			t.Fatalf("%v can be held", lasts)
		}
		if ok && time.Duration(minutes)*time.Minute > lasts+outlives+2*saltMinutes*time.Minute {
			t.Fatalf("%d minutes are far more than %v", minutes, lasts)
		}
	})
}

// TestSalt: references that follow each other are spread over the salts.
func TestSalt(t *testing.T) {
	seen := map[int64]int{}
	for n := range 12_000 {
		seen[salt(fmt.Sprintf("1795426200%03d_%d", n%1000, 5520+n))]++
	}
	for s := range int64(saltMinutes) {
		if seen[s] < 50 || seen[s] > 200 {
			t.Errorf("salt %d comes %d times of 12000", s, seen[s])
		}
	}
}

func TestAppendStan(t *testing.T) {
	for n, want := range map[uint32]string{0: "000001", 1: "000002", 999_997: "999998", 999_998: "999999", 999_999: "000001", 1 << 31: "485796"} {
		if got := string(appendStan(nil, n)); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}
