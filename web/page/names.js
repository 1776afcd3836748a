// What the words of a file's name tell, by the rules of the program (reading/sequences.py).

const DENIED =
  /\b(pre|precontrast|without|no|non|wo|w o|w out|ohne|o km|nativ|native|sans|sin|sem|senza|zonder|unenhanced|noncontrast)\b|\b(before|vor|avant|antes|prima|voor)\b.{0,8}(contr|kontr|gd|gad|inj|km|mdc|agent)/;
const LABELS = ["seg", "segmentation", "dseg", "mask", "brainmask", "label", "labels", "roi", "probseg"];

/** The sequence that the words of a file's name tell, as the program reads them; "" where none. */
export function sequenceOf(name) {
  const stem = name.toLowerCase().replace(/\.nii(\.gz)?$|(?<![a-z0-9])(sub|ses)-[a-z0-9]+_/g, "");
  const words = stem.match(/[\p{L}\p{N}]+/gu) ?? [];
  const any = (...wanted) => wanted.some((w) => words.includes(w));
  if (any(...LABELS)) return "";
  if (any("flair", "t2f")) return "flair";
  const agent = words.some((w) => /^(ce|gd|gad.*|post|contrast)$/.test(w));
  const denied = DENIED.test(words.join(" ")) && !any("post");
  if (any("t1c", "t1ce", "t1gd", "t1post")) return "t1c";
  if (any("t1", "t1w") && agent && !denied) return "t1c";
  if (any("t2", "t2w")) return "t2";
  if (any("t1", "t1w", "t1n")) return "t1";
  return words.some((w) => w.includes("flair")) ? "flair" : "";
}
