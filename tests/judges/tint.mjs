// node tint.mjs DAWN FOLDER: hand every .wgsl file of the folder to Dawn, whose Tint is what reads shaders in Chromium, and make a pipeline of it on a
// device with the default limits of WebGPU. DAWN is where `npm install webgpu` was; no driver is needed, since nothing runs.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [dawn, folder] = process.argv.slice(2);
const { create } = await import(pathToFileURL(join(dawn, 'node_modules/webgpu/index.js')));
let gpu = create(['backend=null']);
const adapter = await gpu.requestAdapter();
const device = await adapter.requestDevice({ requiredFeatures: ['subgroups'] });

const files = readdirSync(folder).filter((name) => name.endsWith('.wgsl'));
let refused = 0;
for (const name of files) {
    const module = device.createShaderModule({ code: readFileSync(join(folder, name), 'utf8') });
    const { messages } = await module.getCompilationInfo();
    const error = await device.createComputePipelineAsync({ layout: 'auto', compute: { module } }).then(() => null, (error) => error);
    for (const { type, lineNum, linePos, message } of messages) {
        console.error(`${name}:${lineNum}:${linePos}: ${type}: ${message}`);
    }
    if (error) console.error(`${name}: ${error.message}`);
    refused += error || messages.length > 0 ? 1 : 0;
}
console.log(`Tint: ${files.length - refused} of ${files.length} passed`);
device.destroy();
gpu = null; // or node never ends
process.exitCode = files.length > 0 && refused === 0 ? 0 : 1;
