// Says of each file named on the command line what c2pa-ts finds: one JSON object per line.
import { readFile } from 'node:fs/promises';
import { BMFF, JPEG, PNG } from '@trustnxt/c2pa-ts/asset';
import { SuperBox } from '@trustnxt/c2pa-ts/jumbf';
import { ManifestStore, ValidationResult } from '@trustnxt/c2pa-ts/manifest';

for (const file of process.argv.slice(2)) {
  const data = await readFile(file);
  const Kind = [JPEG, PNG, BMFF].find((kind) => kind.canRead(data));
  let result;
  try {
    const asset = new Kind(data);
    result = await ManifestStore.read(SuperBox.fromBuffer(asset.getManifestJUMBF())).validate(asset);
  } catch (error) {
    result = ValidationResult.fromError(error);
  }
  const failures = result.statusEntries.filter((entry) => !entry.success).map((entry) => entry.code);
  console.log(JSON.stringify({ valid: result.isValid, failures }));
}
